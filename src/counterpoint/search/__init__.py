"""Finding: exact and approximate neighbours, BM25, fusion of both, and an index in a folder."""

import sys
from types import ModuleType
from typing import Any

import counterpoint
from counterpoint.search.bm25 import BM25
from counterpoint.search.exact import top_k
from counterpoint.search.index import Hit, Index

__all__ = ["BM25", "Hit", "Index", "top_k"]


class _Package(ModuleType):
    """This package, which can be called: ``counterpoint.search(folder, queries)`` has the name of the package."""

    def __call__(self, *args: Any, **settings: Any) -> list[list[Hit]]:
        """As `counterpoint.workflow.search.search`."""
        return counterpoint.verb(__name__)(*args, **settings)  # type: ignore[no-any-return]


sys.modules[__name__].__class__ = _Package
