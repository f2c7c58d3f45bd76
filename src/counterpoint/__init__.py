"""Counterpoint: representation learning by contrast.

>>> import counterpoint
>>> counterpoint.__version__
'0.1.0'

Every verb of the command line is a function here: ``counterpoint.fit(data, out=...)`` trains,
``counterpoint.load(folder)`` gives the encoder back, ``counterpoint.evaluate``, ``encode``, ``index``, ``search``,
``mine``, ``export`` and the others take what `counterpoint VERB --help` says. The parts stand in ``objectives``,
``encoders``, ``views``, ``memory``, ``train``, ``evaluate``, ``search`` and ``methods``.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

from counterpoint._version import __version__

if TYPE_CHECKING:
    from counterpoint.data.inspect import inspect
    from counterpoint.workflow.align import align
    from counterpoint.workflow.compare import compare
    from counterpoint.workflow.diagnose import diagnose
    from counterpoint.workflow.doctor import doctor
    from counterpoint.workflow.encode import encode
    from counterpoint.workflow.export import export
    from counterpoint.workflow.fit import fit
    from counterpoint.workflow.generate import generate
    from counterpoint.workflow.index import index
    from counterpoint.workflow.merge import merge
    from counterpoint.workflow.mine import mine
    from counterpoint.workflow.models import load
    from counterpoint.workflow.prove import prove
    from counterpoint.workflow.refine import refine

_WHERE = {
    "align": "workflow.align",
    "compare": "workflow.compare",
    "demo": "demo:run",
    "diagnose": "workflow.diagnose",
    "doctor": "workflow.doctor",
    "encode": "workflow.encode",
    "evaluate": "workflow.evaluate",
    "export": "workflow.export",
    "fit": "workflow.fit",
    "generate": "workflow.generate",
    "index": "workflow.index",
    "inspect": "data.inspect",
    "load": "workflow.models",
    "merge": "workflow.merge",
    "methods": "methods.catalogue",
    "mine": "workflow.mine",
    "prove": "workflow.prove",
    "refine": "workflow.refine",
    "report": "report.page:write",
    "search": "workflow.search",
}
"""A function of this package -> the module that holds it, and its name there where that is another."""
_MODULES = {"demo", "evaluate", "methods", "report", "search"}
"""Functions that have the name of a module of this package, which can be called."""

__all__ = [
    "__version__", "align", "compare", "diagnose", "doctor", "encode", "export", "fit", "generate", "index", "inspect",
    "load", "merge", "mine", "prove", "refine",
]  # fmt: skip


def verb(name: str) -> Any:
    """The function of a verb. name: ``search`` or ``counterpoint.search``, to what `counterpoint.search(...)` calls."""
    name = name.rpartition(".")[2]
    module, _, function = _WHERE[name].partition(":")
    return getattr(importlib.import_module(f"{__name__}.{module}"), function or name)


class _Verb(ModuleType):
    """A module of this package that has the name of a verb, and can be called as one."""

    def __call__(self, *args: Any, **settings: Any) -> Any:
        return verb(self.__name__)(*args, **settings)


def call_as_verb(module: str) -> None:
    """Make a module that is being imported one that can be called: ``call_as_verb(__name__)``, its last line."""
    sys.modules[module].__class__ = _Verb


def __getattr__(name: str) -> Any:
    """Import heavy parts at first use, so that `import counterpoint` and `counterpoint --help` are quick."""
    if name in _MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    if name in _WHERE:
        value = globals()[name] = verb(name)
        return value
    raise AttributeError(f"module 'counterpoint' has no attribute {name!r}")
