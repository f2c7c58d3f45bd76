"""Counterpoint: representation learning by contrast.

>>> import counterpoint
>>> counterpoint.__version__
'0.1.0'

``counterpoint.fit(data, out=...)`` trains, ``counterpoint.load(folder)`` gives the encoder back. The parts stand in
``objectives``, ``encoders``, ``views``, ``memory``, ``train``, ``evaluate``, ``search`` and ``methods``.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from counterpoint._version import __version__

if TYPE_CHECKING:
    from counterpoint.workflow.diagnose import diagnose
    from counterpoint.workflow.fit import fit
    from counterpoint.workflow.models import load

__all__ = ["__version__", "diagnose", "fit", "load"]

_WHERE = {
    "diagnose": "counterpoint.workflow.diagnose",
    "fit": "counterpoint.workflow.fit",
    "load": "counterpoint.workflow.models",
}


def __getattr__(name: str) -> Any:
    """Import heavy parts at first use, so that `import counterpoint` and `counterpoint --help` are quick."""
    if name in _WHERE:
        value = getattr(importlib.import_module(_WHERE[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'counterpoint' has no attribute {name!r}")
