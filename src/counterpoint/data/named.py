"""Columns that the user named: the parts that they play, checked against what they hold."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

import pyarrow as pa

from counterpoint.data import steps
from counterpoint.data.column_types import CLASS, LISTS, NUMBER, column_of, column_type, describe
from counterpoint.data.decided import decided_schema
from counterpoint.data.roles import NEGATIVE, Columns
from counterpoint.data.schema import SOURCED, Kind, Schema
from counterpoint.data.schema_of import schema_of
from counterpoint.errors import DataError
from counterpoint.modalities import base as modalities
from counterpoint.modalities.base import is_file
from counterpoint.modalities.series import SERIES
from counterpoint.modalities.text import TEXT

if TYPE_CHECKING:
    import datasets

_PARTS: dict[frozenset[str], Kind] = {
    frozenset({"anchor", "positive"}): "pairs",
    frozenset({"anchor", "positive", "negatives"}): "pairs",
    frozenset({"a", "b", "score"}): "scored",
}
"""Sets of parts that are not named by a modality."""

_NAMES = {TEXT, NUMBER, CLASS}
_ALLOWED = {
    "a": {TEXT}, "b": {TEXT}, "positives": {TEXT, LISTS}, "negatives": {TEXT, LISTS}, "score": {NUMBER},
    "label": _NAMES, "bag": _NAMES, "source": _NAMES, "task": {NUMBER},
}  # fmt: skip
"""What columns can play a part that is not named by a modality."""
_ITEMS = ("anchor", "positive")
"""Parts that hold items of whichever modality their columns look like."""


def words() -> str:
    """The parts that columns can play, and which of them go together, in words."""
    known = modalities.discover().values()
    rows = [m for m in known if m.shape == "rows"]
    named = [f"{m.name} ({m.name}=a+b+c)" if m.columns == "several" else m.name for m in rows]
    items = [TEXT, *(n for n in named if n != TEXT)]
    labelled = [f"{m.name}, label{''.join(f'[, {p}]' for p in m.with_label)}" for m in rows if m.with_label]
    bags = f"{' or '.join(m.name for m in rows if m.bags)}, label, bag"
    whole = [f"{m.name}[, time] ({m.name}=a+b+c)" for m in known if m.shape == "whole" and m.columns == "several"]
    sets = [*items, "any of these and label", "any two", "anchor, positive[, positives][, negatives]", "a, b, score"]
    return (
        f"{' | '.join((*sets, *labelled, bags, *whole))}; and, with texts or pairs, source; with scores, "
        "range=LOWEST..HIGHEST (positives are further ones; they and negatives may be given several times, or as lists)"
    )


def kind_of(given: set[str]) -> Kind | None:
    """What rows hold whose columns play these parts; None where the parts do not go together.

    given: parts that columns play.
    """
    if kind := _PARTS.get(frozenset(given)):
        return kind
    own = [m for m in modalities.discover().values() if m.name in given and m.shape == "rows"]
    given = given - {part for m in own for part in m.beside}
    if len(own) == 2 and given == {m.name for m in own}:
        return "towers"
    for m in own:
        rest = given - {m.name}
        if not rest:
            return "texts" if m.name == TEXT else "items"
        if "label" in rest and rest <= {"label", *m.with_label}:
            return "labelled"
        if m.bags and rest == {"label", "bag"}:
            return "bags"
    return None


def named_schema(dataset: datasets.Dataset, columns: Columns) -> Schema:
    """The schema of a dataset whose columns play the parts that were named: part -> column. Raises `DataError` for a
    part or a column that does not exist, and for parts that do not go together."""
    if SERIES in columns:
        return _series(dataset, columns)
    given: dict[str, str | list[str]] = {}
    several = [m.name for m in modalities.discover().values() if m.columns == "several"]
    for role, column in columns.items():
        role = "negatives" if NEGATIVE.fullmatch(role) else role
        if role not in _known():
            raise DataError(f"A column cannot play the part {role!r}. The parts are: {words()}.")
        many = [column] if isinstance(column, str) else list(column)
        if role in several:
            many = _names(dataset, many)
        for name in many:
            _check(dataset, role, name)
        if role in ("negatives", "positives", *several):
            given[role] = [*given.get(role, []), *many]
        else:
            given[role] = many[0]
    if set(given) == {"source"}:  # the other columns speak for themselves
        found = decided_schema(dataset.remove_columns(str(given["source"])))
        if found.kind in SOURCED:
            why = f"{found.why.removeprefix(f'{found.kind}: ').rstrip('.')}, from the sources in {given['source']}"
            return schema_of(dataset, found.kind, {**found.columns, **given}, why)
    kind = kind_of(set(given) - {"source", "positives"})
    if (kind not in SOURCED and "source" in given) or (kind != "pairs" and "positives" in given):
        kind = None
    if kind is None:
        raise DataError(
            f"The parts {', '.join(given)} do not go together. Sets that do: {words()}. "
            f"The columns are {describe(dataset)}."
        )
    for part in several:
        if twice := set(given.get(part, ())) & {c for c in given.values() if isinstance(c, str)}:
            raise DataError(
                f"Column {min(twice)!r} is named as a part of the {part} and by itself. Leave it out of the {part}."
            )
    said = ", ".join(f"{role}={c if isinstance(c, str) else '+'.join(c)}" for role, c in given.items())
    return schema_of(dataset, kind, given, f"as named: {said}")


def _series(dataset: datasets.Dataset, columns: Columns) -> Schema:
    """The channels of one series, named ``series=a+b``, and perhaps its ``time``."""
    if others := set(columns) - {SERIES, "time"}:
        raise DataError(f"The part {min(others)!r} does not go with series; with it goes time: series=a+b,time=c.")
    named = columns[SERIES]
    channels = _names(dataset, [named] if isinstance(named, str) else list(named))
    for name in channels:
        _check(dataset, SERIES, name)
    time = columns.get("time")
    if time is not None and time not in dataset.column_names:
        raise DataError(f"There is no column {time!r} to be the time; there are {describe(dataset)}.")
    return steps.named(channels, None if time is None else str(time), f"as named: {', '.join(channels)}")


def _names(dataset: datasets.Dataset, given: list[str]) -> list[str]:
    """Columns that are written as ``a+b``, unless one is called so, as a list."""
    return [n for one in given for n in ([one] if one in dataset.column_names else one.split("+"))]


def _known() -> set[str]:
    """The parts that a column can play."""
    of = modalities.discover().values()
    return {*_ALLOWED, *_ITEMS, *(m.name for m in of if m.shape == "rows"), *(p for m in of for p in m.beside)}


def _allowed(role: str) -> list[str]:
    """What a column must hold to play a part, in words."""
    known = modalities.discover()
    if role in _ITEMS:
        return sorted(m.name for m in known.values() if m.columns == "one" and m.shape == "rows")
    if role in known:
        cells = {TEXT: pa.string(), NUMBER: pa.float64()}
        own = {role} if known[role].columns == "one" else set()
        return sorted(own | {name for name, type_ in cells.items() if known[role].fits(type_)})
    return sorted(_ALLOWED.get(role, {NUMBER}))


def _plays(dataset: datasets.Dataset, role: str, name: str) -> bool:
    """Whether a column can play a part, by its type and, of files, by what they are."""
    found, modality = column_type(dataset, name), modalities.discover().get(role)
    if modality is None:
        return found in _allowed(role)
    type_ = column_of(dataset, name).type
    return modality.fits(type_) and (found == role or not is_file(type_))


def _check(dataset: datasets.Dataset, role: str, name: str) -> None:
    if name not in dataset.column_names:
        close = difflib.get_close_matches(name, dataset.column_names, n=1)
        meant = f" Did you mean {close[0]!r}? Type: --columns {role}={close[0]}" if close else ""
        raise DataError(f"There is no column {name!r} to be the {role}; there are {describe(dataset)}.{meant}")
    if not _plays(dataset, role, name):
        fitting = [n for n in dataset.column_names if _plays(dataset, role, n)]
        instead = f" Type: --columns {role}={fitting[0]}" if fitting else ""
        raise DataError(
            f"Column {name!r} holds {column_type(dataset, name)}, but the {role} must be "
            f"{' or '.join(_allowed(role))}. The columns are {describe(dataset)}.{instead}"
        )
    modality = modalities.discover().get(role)
    if modality and modality.lacks and (why := modality.lacks(column_of(dataset, name))):
        raise DataError(why)
