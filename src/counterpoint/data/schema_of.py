"""A schema from parts and columns: what each part holds, the names of classes and sources."""

from __future__ import annotations

from typing import TYPE_CHECKING

from counterpoint.data.classes import is_class, names_of
from counterpoint.data.column_types import column_of, column_type
from counterpoint.data.schema import Kind, Schema
from counterpoint.errors import DataError
from counterpoint.modalities import base as modalities
from counterpoint.modalities.base import is_encoded
from counterpoint.modalities.text import TEXT

if TYPE_CHECKING:
    import datasets


TOLD = ("score", "label", "bag", "source")
"""Parts that tell something of a row's items and are none themselves."""


def schema_of(dataset: datasets.Dataset, kind: Kind, columns: dict[str, str | list[str]], why: str) -> Schema:
    """The schema of rows of a kind: with names of classes and sources, and with columns that belong to an item.

    dataset: of `datasets`. kind: of the rows. columns: part -> column. why: a sentence that says how it was decided.
    """
    own = [modalities.of(part) for part in columns if part in modalities.discover()]
    # Beside an item and its label, what is said in it is no item of its own: it tells of it, as the label does.
    beside = {p for m in own for p in (*m.beside, *(m.with_label if "label" in columns else ()))}
    for modality in own:
        columns = {**_beside(dataset, modality, columns), **columns}
    labels = class_names(dataset, str(columns["label"])) if "label" in columns else ()
    sources = class_names(dataset, str(columns["source"]), what="sources") if "source" in columns else ()
    return Schema(
        kind=kind,
        columns=columns,
        modalities={
            part: modality_of(dataset, part, c if isinstance(c, str) else c[0])
            for part, c in columns.items()
            if part not in TOLD and part not in beside
        },
        labels=labels,
        sources=sources,
        why=f"{kind}: {why}.",
    )


def _beside(
    dataset: datasets.Dataset, modality: modalities.Modality, columns: dict[str, str | list[str]]
) -> dict[str, str | list[str]]:
    """The columns that items which are no files are made with: part -> column."""
    name = columns[modality.name]
    if not isinstance(name, str) or is_encoded((column := column_of(dataset, name)).type):
        return {}
    found = {part: column.number_beside(names) for part, names in modality.beside.items()}
    return {part: name for part, name in found.items() if name}


def modality_of(dataset: datasets.Dataset, part: str, column: str) -> str:
    """What a part holds: parts are named by their modality, or are of whichever their column looks like.

    dataset: of `datasets`. part: its name. column: the one that plays it.
    """
    if part in modalities.discover():
        return part
    found = column_type(dataset, column)
    return found if found in modalities.discover() else TEXT  # lists of texts


def class_names(dataset: datasets.Dataset, column: str, *, what: str = "classes") -> tuple[str, ...]:
    """Names of classes (or sources) in the order of their numbers: the feature's own, else the sorted values.

    dataset: of `datasets`. column: with the classes. what: they are called in messages.
    """
    feature = dataset.features[column]
    if type(feature).__name__ == "ClassLabel":
        return tuple(feature.names)
    values = [v for v in dataset.unique(column) if is_class(v)]
    if len(values) > 1_000 and len(values) * 2 > len(dataset):
        raise DataError(
            f"Column {column!r} has {len(values):,} different values in {len(dataset):,} rows: these are no {what}. "
            + (
                "Name the column of classes (--columns label=...), or leave it out (--columns text=...)."
                if what == "classes"
                else "Name the column of sources (--columns source=...), or leave it out."
            )
        )
    return names_of(values)
