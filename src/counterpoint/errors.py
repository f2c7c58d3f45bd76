"""Errors are sentences: what was given, what was expected, what to type next."""

from __future__ import annotations

import importlib
from types import ModuleType


class CounterpointError(Exception):
    """Base of every error the library raises on purpose. The command line prints its text alone, without a
    traceback."""


class DataError(CounterpointError, ValueError):
    """The rows cannot be used as asked: a missing column, an empty file, one class only."""


class ItemError(DataError):
    """One item of several cannot be used. what: its kind, as in "Image". place, of: its position, from 0, among how
    many. why: the rest of the sentence."""

    def __init__(self, what: str, place: int, of: int, why: str) -> None:
        super().__init__(what, place, of, why)
        self.what, self.place, self.of, self.why = what, place, of, why

    def __str__(self) -> str:
        return f"{self.what} {self.place:,} of {self.of:,} {self.why}"

    def at(self, place: int, of: int) -> ItemError:
        """The same of an item that stands at this place among so many."""
        return ItemError(self.what, place, of, self.why)


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
