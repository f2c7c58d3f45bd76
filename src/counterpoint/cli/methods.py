"""`counterpoint methods`: every method, what it needs, and one method's page."""

from __future__ import annotations

from typing import Annotated

from tyro.conf import Positional, arg


def methods(name: Annotated[Positional[str], arg(metavar="[NAME]", help_behavior_hint="")] = "", /) -> None:
    """List the methods, or describe one: its paper, its equation, its settings, its published recipe.

    Example: counterpoint methods contriever

    Args:
        name: the method to describe; none lists them all.
    """
    from rich.table import Table

    from counterpoint.methods.catalogue import page, pages
    from counterpoint.terminal import Console
    from counterpoint.workflow.words import needs

    console = Console(markup=False, highlight=False, soft_wrap=bool(name))
    if not name:
        table = Table(box=None, header_style="bold")
        table.add_column("method", no_wrap=True)
        table.add_column("year", no_wrap=True)
        table.add_column("learns from")
        table.add_column("title")
        for key, one in pages().items():
            held = " | ".join(needs(one)) + f" ({', '.join(one.modalities)})" * (one.needs != ("items",))
            table.add_row(key, str(one.year), held, one.title)
        console.print(table)
        console.print(
            "\nOne method's page: counterpoint methods NAME. Train with it: counterpoint fit DATA --method NAME"
        )
        return
    one = page(name)
    console.print(one.doc)
    console.print(f"\nSettings (counterpoint fit DATA --method {name} --set KEY=VALUE):")
    for setting in one.settings:
        console.print(f"  {setting}")
    console.print(f"\nRecipes (counterpoint fit DATA --method {name} --size published):\n{one.recipe}")
