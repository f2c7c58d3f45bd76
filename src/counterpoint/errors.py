"""Errors are sentences: what was given, what was expected, what to type next."""

from __future__ import annotations

import importlib
import re
from types import ModuleType


class CounterpointError(Exception):
    """Base of every error the library raises on purpose. The command line prints its text alone, without a
    traceback."""


class DataError(CounterpointError, ValueError):
    """The rows cannot be used as asked: a missing column, an empty file, one class only."""


class ItemError(DataError):
    """One item of several cannot be used. said: the sentence, in which ``{place}`` stands for the item's position, from
    0, and ``{of}`` for how many there are. place, of: these."""

    def __init__(self, said: str, place: int, of: int) -> None:
        super().__init__(said, place, of)
        self.said, self.place, self.of = said, place, of

    def __str__(self) -> str:
        return self.said.replace("{place}", f"{self.place:,}").replace("{of}", f"{self.of:,}")

    def at(self, place: int, of: int) -> ItemError:
        """The same of an item that stands at this place among so many."""
        return ItemError(self.said, place, of)


class NoRowsError(DataError):
    """A file that is whole, and empty."""


class ConfigError(CounterpointError, ValueError):
    """Settings contradict each other or the data."""


class ModelError(CounterpointError, ValueError):
    """A model folder cannot be read or written as asked."""


class NotFiniteError(ModelError):
    """An encoder gave NaN or infinity. tower: which, in words. rows: of which items, positions from 0. of: how many
    items there were. weights: the name of a weight that is not finite ('': all are)."""

    def __init__(self, tower: str, rows: tuple[int, ...], of: int, weights: str = "") -> None:
        super().__init__(tower, rows, of, weights)
        self.tower, self.rows, self.of, self.weights = tower, rows, of, weights

    def __str__(self) -> str:
        if self.weights:
            return (
                f"The {self.tower} gives embeddings with NaN or infinity: its weights are not finite ({self.weights}). "
                "The training diverged or the folder is damaged: train again with a lower lr, or take another model."
            )
        shown = ", ".join(f"{row:,}" for row in self.rows[:5]) + (", ..." if len(self.rows) > 5 else "")
        return (
            f"The {self.tower} gives embeddings with NaN or infinity for {len(self.rows):,} of {self.of:,} rows "
            f"(row {shown}, counted from 0). Look at these rows and leave them out, or take another model."
        )


class CollapseError(CounterpointError, RuntimeError):
    """Training was stopped because the embeddings collapsed to (almost) one point or one line."""


class DivergedError(CounterpointError, RuntimeError):
    """Training was stopped because a loss or the gradient is no longer finite."""


class MissingExtra(CounterpointError, ImportError):
    """An optional dependency is not installed."""


def need(module: str, extra: str) -> ModuleType:
    """Import an optional dependency, or say which extra brings it.

    module: as it is imported. extra: as in ``pip install 'counterpoint[extra]'``.

    >>> need("json", "none").__name__
    'json'
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise MissingExtra(
            f"This needs the package {package!r}, which is not installed. Type: pip install 'counterpoint[{extra}]'"
        ) from error


# Escape sequences begin with one of these; a tab and a line's end are text. Among the last: marks that reverse the
# direction of what follows, by which a text can look like another.
_COMMANDS = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]|\r(?!\n)")


def visible(text: str) -> str:
    r"""The text with every control character written out: it cannot move the cursor, recolour or rename a window.

    >>> visible("red \x1b[31m and \x07")
    'red \\x1b[31m and \\x07'
    """
    return _COMMANDS.sub(lambda found: ascii(found[0])[1:-1], text)
