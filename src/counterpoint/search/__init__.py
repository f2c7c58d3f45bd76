"""Finding: exact and approximate neighbours, BM25, fusion of both, and an index in a folder.

As a function, ``counterpoint.search(folder, queries)``, it is `counterpoint.workflow.search.search`.
"""

import counterpoint
from counterpoint.search.bm25 import BM25
from counterpoint.search.exact import top_k
from counterpoint.search.index import Hit, Index

__all__ = ["BM25", "Hit", "Index", "top_k"]

counterpoint.call_as_verb(__name__)
