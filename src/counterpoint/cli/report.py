"""`counterpoint report`: the page of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg


def report(run: Annotated[Positional[Path], arg(metavar="RUN", help_behavior_hint="")], /) -> None:
    """Write the report of a run again: one HTML file with curves, monitors, evaluation, neighbours, a map.

    Example: counterpoint report runs/demo

    Args:
        run: the folder that `fit` or `demo` wrote.
    """
    from counterpoint.report.page import write
    from counterpoint.terminal import say

    say(write(run))
