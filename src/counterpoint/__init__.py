"""Counterpoint: representation learning by contrast.

>>> import counterpoint
>>> counterpoint.__version__
'0.1.0'

``counterpoint.fit(data, out=...)`` trains, ``counterpoint.load(folder)`` gives the encoder back,
``counterpoint.index(folder, data)`` and ``counterpoint.search(folder, queries)`` find rows. The parts stand in
``objectives``, ``encoders``, ``views``, ``memory``, ``train``, ``evaluate``, ``search`` and ``methods``.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from counterpoint._version import __version__

if TYPE_CHECKING:
    from counterpoint.workflow.diagnose import diagnose
    from counterpoint.workflow.fit import fit
    from counterpoint.workflow.index import index
    from counterpoint.workflow.models import load
    from counterpoint.workflow.search import search

__all__ = ["__version__", "diagnose", "fit", "index", "load", "search"]

_WHERE = {
    "diagnose": "counterpoint.workflow.diagnose",
    "fit": "counterpoint.workflow.fit",
    "index": "counterpoint.workflow.index",
    "load": "counterpoint.workflow.models",
    "search": "counterpoint.workflow.search",
}


def verb(name: str) -> Any:
    """A function of this package by its name, ``search`` or ``counterpoint.search``."""
    name = name.rpartition(".")[2]
    return getattr(importlib.import_module(_WHERE[name]), name)


def __getattr__(name: str) -> Any:
    """Import heavy parts at first use, so that `import counterpoint` and `counterpoint --help` are quick."""
    if name in _WHERE:
        # The package of this name, which can be called, is what stands here as soon as anything in it is imported.
        value = importlib.import_module("counterpoint.search") if name == "search" else verb(name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'counterpoint' has no attribute {name!r}")
