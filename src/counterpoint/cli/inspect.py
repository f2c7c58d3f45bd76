"""`counterpoint data`: the data sets known by name, and a look into any file."""

from __future__ import annotations

from typing import Literal

from tyro.conf import Positional


def data(
    what: Positional[Literal["list", "describe", "inspect"]] = "list", source: Positional[tuple[str, ...]] = (), /
) -> None:
    """List the data sets known by name, or inspect rows: counts, lengths, duplicates, leakage between splits.

    Example: counterpoint data inspect train.jsonl test.jsonl

    Args:
        what: list, describe NAME, or inspect FILE...
        source: a data set's name, or files.
    """
    from rich.console import Console
    from rich.table import Table

    from counterpoint.data import registry
    from counterpoint.data.inspect import inspect
    from counterpoint.errors import ConfigError

    console = Console()
    if what == "inspect":
        if not source:
            raise ConfigError("Which rows? Type: counterpoint data inspect FILE...")
        console.print(inspect(source[0] if len(source) == 1 else list(source)))
    elif what == "describe":
        if not source:
            raise ConfigError("Which data set? Type: counterpoint data describe NAME (counterpoint data lists them).")
        for name in source:
            console.print(registry.describe(name))
    else:
        table = Table("name", "title", "modality", "task", "licence", box=None, header_style="bold")
        for name, entry in sorted(registry.ENTRIES.items()):
            table.add_row(name, entry.title, entry.modality, entry.task, entry.licence)
        console.print(table)
