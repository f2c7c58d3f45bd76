"""`counterpoint data`: the data sets known by name, and a look into any file."""

from __future__ import annotations

from typing import Annotated, Literal

from tyro.conf import Positional, arg

from counterpoint.cli.options import AS_FOUND, Read


def data(
    what: Annotated[Positional[Literal["list", "describe", "inspect"]], arg(help_behavior_hint="")] = "list",
    source: Annotated[Positional[tuple[str, ...]], arg(metavar="NAME | FILE...", help_behavior_hint="")] = (),
    /,
    *,
    files: Read = AS_FOUND,
) -> None:
    """List the data sets known by name, or inspect rows: what is found in them, what each column is taken for.

    Also counts, lengths, duplicates, classes, and texts that two splits or files have in common.

    Example: counterpoint data inspect train.jsonl test.jsonl

    Args:
        what: list (also where nothing is typed), describe NAME, or inspect FILE.
        source: a data set's name, or files (several: texts that are in two of them are counted).
        files: how files are read, where that is not found by looking at them.
    """
    from rich.table import Table

    from counterpoint.data.inspect import inspect
    from counterpoint.data.sets import registry
    from counterpoint.errors import ConfigError
    from counterpoint.terminal import Console

    console = Console(markup=False, highlight=False)
    if what == "inspect":
        if not source:
            raise ConfigError("Which rows? Type: counterpoint data inspect FILE...")
        console.print(inspect(source[0] if len(source) == 1 else list(source), reading=files.reading()))
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
        console.print(
            "\nOne set: counterpoint data describe NAME. Local copies: in the folder that COUNTERPOINT_DATA names."
        )
