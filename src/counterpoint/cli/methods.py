"""`counterpoint methods`: every method, what it needs, and one method's page."""

from __future__ import annotations

import dataclasses
import inspect
import sys
from typing import Annotated

from tyro.conf import Positional, arg


def methods(name: Annotated[Positional[str], arg(metavar="[NAME]", help_behavior_hint="")] = "", /) -> None:
    """List the methods, or describe one: its paper, its equation, its settings, its published recipe.

    Example: counterpoint methods contriever

    Args:
        name: the method to describe; none lists them all.
    """
    from rich.console import Console
    from rich.table import Table

    from counterpoint.methods.base import discover, find
    from counterpoint.workflow.choose import needs

    console = Console(markup=False, highlight=False, soft_wrap=bool(name))
    if not name:
        table = Table(box=None, header_style="bold")
        table.add_column("method", no_wrap=True)
        table.add_column("year", no_wrap=True)
        table.add_column("learns from")
        table.add_column("title")
        for key, cls in discover().items():
            spec = cls.spec
            held = " | ".join(needs(spec)) + f" ({', '.join(spec.modalities)})" * (spec.needs != ("items",))
            table.add_row(key, str(spec.year), held, spec.title)
        console.print(table)
        console.print(
            "\nOne method's page: counterpoint methods NAME. Train with it: counterpoint fit DATA --method NAME"
        )
        return
    cls = find(name)
    console.print(inspect.getdoc(sys.modules[cls.__module__]) or "")
    console.print(f"\nSettings (counterpoint fit DATA --method {name} --set KEY=VALUE):")
    for field, value in dataclasses.asdict(cls.Config()).items():
        console.print(f"  {field} = {value!r}")
    console.print("\nPublished recipe:")
    recipe = cls.recipe("published")
    for part in dataclasses.fields(recipe):
        console.print(f"  {part.name} = {getattr(recipe, part.name)!r}")
