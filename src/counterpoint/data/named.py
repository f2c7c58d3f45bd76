"""Columns that the user named: the parts that they play, checked against what they hold."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from counterpoint.data import steps
from counterpoint.data.audio import RATES
from counterpoint.data.column_types import column_type, describe, is_numbers
from counterpoint.data.decided import decided_schema
from counterpoint.data.dna import clean
from counterpoint.data.roles import NEGATIVE, SAMPLE, Columns
from counterpoint.data.schema import SOURCED, Kind, Schema
from counterpoint.data.schema_of import schema_of
from counterpoint.errors import DataError

if TYPE_CHECKING:
    import datasets

_NEEDS: dict[frozenset[str], Kind] = {
    frozenset({"anchor", "positive"}): "pairs",
    frozenset({"anchor", "positive", "negatives"}): "pairs",
    frozenset({"a", "b", "score"}): "scored",
    frozenset({"text", "label"}): "labelled",
    frozenset({"image", "label"}): "labelled",
    frozenset({"image", "text"}): "towers",
    frozenset({"text"}): "texts",
    frozenset({"image"}): "items",
    frozenset({"audio", "label"}): "labelled",
    frozenset({"audio", "text"}): "towers",
    frozenset({"audio", "text", "label"}): "labelled",
    frozenset({"audio", "label", "task"}): "labelled",
    frozenset({"audio", "text", "label", "task"}): "labelled",
    frozenset({"audio"}): "items",
    frozenset({"table"}): "items",
    frozenset({"table", "label"}): "labelled",
    frozenset({"image", "table"}): "towers",
    frozenset({"vector"}): "items",
    frozenset({"vector", "label"}): "labelled",
    frozenset({"dna"}): "items",
    frozenset({"dna", "label"}): "labelled",
    **{frozenset({item, "label", "bag"}): "bags" for item in ("image", "text", "vector")},
}
ROLES = (
    "text | image | anchor, positive[, positives][, negatives] | a, b, score | text, label | image, label | "
    "image, text | audio[, label or text] | audio, label[, text][, task] | "
    "dna[, label] | vector[, label] | table[, label or image] (table=a+b+c) | image or text or vector, label, bag | "
    "series[, time] (series=a+b+c); and, with texts or pairs, source; with scores, range=LOWEST..HIGHEST "
    "(positives are further ones; they and negatives may be given several times, or as a list)"
)

_ALLOWED = {
    "text": {"text", "dna"}, "anchor": {"text", "image"}, "positive": {"text", "image"}, "a": {"text"}, "b": {"text"},
    "positives": {"text", "texts"}, "negatives": {"text", "texts"}, "score": {"number"},
    "label": {"text", "number", "class"}, "image": {"image"},
    "audio": {"audio"}, "rate": {"number"}, "vector": {"vector"}, "bag": {"text", "number", "class"},
    "table": {"text", "number", "class"}, "series": {"number"}, "dna": {"dna", "text"}, "task": {"number"},
    "source": {"text", "number", "class"},
}  # fmt: skip


def named_schema(dataset: datasets.Dataset, columns: Columns) -> Schema:
    if "series" in columns:
        return _series(dataset, columns)
    given: dict[str, str | list[str]] = {}
    for role, column in columns.items():
        role = "negatives" if NEGATIVE.fullmatch(role) else role
        if role not in _ALLOWED:
            raise DataError(f"A column cannot play the part {role!r}. The parts are: {ROLES}.")
        many = [column] if isinstance(column, str) else list(column)
        if role == "table":
            many = [n for one in many for n in ([one] if one in dataset.column_names else one.split("+"))]
        for name in many:
            _check(dataset, role, name)
        if role in ("negatives", "positives", "table"):
            given[role] = [*given.get(role, []), *many]
        else:
            given[role] = many[0]
    if set(given) == {"source"}:  # the other columns speak for themselves
        found = decided_schema(dataset.remove_columns(str(given["source"])))
        if found.kind in SOURCED:
            why = f"{found.why.removeprefix(f'{found.kind}: ').rstrip('.')}, from the sources in {given['source']}"
            return schema_of(dataset, found.kind, {**found.columns, **given}, why)
    kind = _NEEDS.get(frozenset(given) - {"rate", "source", "positives"})
    if (kind not in SOURCED and "source" in given) or (kind != "pairs" and "positives" in given):
        kind = None
    if kind is None:
        raise DataError(
            f"The parts {', '.join(given)} do not go together. Sets that do: {ROLES}. "
            f"The columns are {describe(dataset)}."
        )
    if twice := set(given.get("table", ())) & {c for c in given.values() if isinstance(c, str)}:
        raise DataError(
            f"Column {min(twice)!r} is named as a part of the table and by itself. Leave it out of the table."
        )
    said = ", ".join(f"{role}={c if isinstance(c, str) else '+'.join(c)}" for role, c in given.items())
    return schema_of(dataset, kind, given, f"as named: {said}")


def _series(dataset: datasets.Dataset, columns: Columns) -> Schema:
    """The channels of one series, named ``series=a+b``, and perhaps its ``time``."""
    if others := set(columns) - {"series", "time"}:
        raise DataError(f"The part {min(others)!r} does not go with series; with it goes time: series=a+b,time=c.")
    named = [columns["series"]] if isinstance(columns["series"], str) else list(columns["series"])
    channels = [n for one in named for n in ([one] if one in dataset.column_names else one.split("+"))]
    for name in channels:
        _check(dataset, "series", name)
    time = columns.get("time")
    if time is not None and time not in dataset.column_names:
        raise DataError(f"There is no column {time!r} to be the time; there are {describe(dataset)}.")
    return steps.named(channels, None if time is None else str(time), f"as named: {', '.join(channels)}")


def _check(dataset: datasets.Dataset, role: str, name: str) -> None:
    if name not in dataset.column_names:
        close = difflib.get_close_matches(name, dataset.column_names, n=1)
        meant = f" Did you mean {close[0]!r}? Type: --columns {role}={close[0]}" if close else ""
        raise DataError(f"There is no column {name!r} to be the {role}; there are {describe(dataset)}.{meant}")
    found = column_type(dataset, name)
    if found not in _ALLOWED[role]:
        fitting = [n for n in dataset.column_names if column_type(dataset, n) in _ALLOWED[role]]
        instead = f" Type: --columns {role}={fitting[0]}" if fitting else ""
        if role == "audio" and is_numbers(dataset.data.schema.field(name).type):
            instead = f" Samples need a column of their rate in hertz beside them, called {' or '.join(RATES)}."
        raise DataError(
            f"Column {name!r} holds {found}, but the {role} must be {' or '.join(sorted(_ALLOWED[role]))}. "
            f"The columns are {describe(dataset)}.{instead}"
        )
    if role == "dna":
        for row, value in enumerate(dataset.data.column(name).slice(0, SAMPLE).to_pylist()):
            clean(value or "", where=f"Column {name!r}, row {row},")
