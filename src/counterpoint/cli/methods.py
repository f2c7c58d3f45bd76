"""`counterpoint methods`: every method, what it needs, and one method's page."""

from __future__ import annotations

import dataclasses
import inspect
import sys

from tyro.conf import Positional

NEEDS = {
    "texts": "one column of texts",
    "pairs": "anchor and positive (and negatives)",
    "scored": "two texts and a score",
    "labelled": "items and a label",
    "images": "images",
    "towers": "two modalities of one thing",
}


def methods(name: Positional[str] = "") -> None:
    """List the methods, or describe one: its paper, its equation, its settings, its published recipe.

    Example: counterpoint methods contriever

    Args:
        name: the method to describe; none lists them all.
    """
    from rich.console import Console
    from rich.table import Table

    from counterpoint.methods.base import discover, find

    console = Console()
    if not name:
        table = Table("method", "title", "year", "needs", "modalities", box=None, header_style="bold")
        for key, cls in discover().items():
            spec = cls.spec
            needs = " | ".join(NEEDS[n] for n in spec.needs)
            table.add_row(key, spec.title, str(spec.year), needs, ", ".join(spec.modalities))
        console.print(table)
        console.print(
            "\nOne method's page: counterpoint methods NAME. Train with it: counterpoint fit DATA --method NAME"
        )
        return
    cls = find(name)
    console.print(inspect.getdoc(sys.modules[cls.__module__]) or "", highlight=False, markup=False)
    console.print("\nSettings (counterpoint fit DATA --method", name, "--set KEY=VALUE …)", markup=False)
    for f in dataclasses.fields(cls.Config):
        console.print(f"  {f.name} = {f.default!r}", markup=False)
    console.print("\nPublished recipe", markup=False)
    console.print(cls.recipe("published"), markup=False)
