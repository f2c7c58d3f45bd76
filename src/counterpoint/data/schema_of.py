"""A schema from parts and columns: what each part holds, the names of classes and sources."""

from __future__ import annotations

from typing import TYPE_CHECKING

from counterpoint.data.classes import is_class, names_of
from counterpoint.data.column_types import column_type, is_numbers, rate_column
from counterpoint.data.schema import Kind, Schema
from counterpoint.errors import DataError

if TYPE_CHECKING:
    import datasets


def schema_of(dataset: datasets.Dataset, kind: Kind, columns: dict[str, str | list[str]], why: str) -> Schema:
    if "audio" in columns and is_numbers(dataset.data.schema.field(str(columns["audio"])).type):
        columns = {"rate": str(rate_column(dataset)), **columns}
    # Beside a recording and its label a text is no item of its own: it tells what is said, as the label does.
    spoken = ("text",) if {"audio", "label"} <= set(columns) else ()
    told = {"score", "label", "bag", "rate", "task", "source", *spoken}
    modalities = {
        role: modality_of(dataset, role, c if isinstance(c, str) else c[0])
        for role, c in columns.items()
        if role not in told
    }
    labels = class_names(dataset, str(columns["label"])) if "label" in columns else ()
    sources = class_names(dataset, str(columns["source"]), what="sources") if "source" in columns else ()
    return Schema(
        kind=kind, columns=columns, modalities=modalities, labels=labels, sources=sources, why=f"{kind}: {why}."
    )


def modality_of(dataset: datasets.Dataset, role: str, column: str) -> str:
    """What a part holds: parts are named by their modality, or are of either text or images."""
    if role in ("audio", "table", "vector", "dna"):
        return role
    return "image" if column_type(dataset, column) == "image" else "text"


def class_names(dataset: datasets.Dataset, column: str, *, what: str = "classes") -> tuple[str, ...]:
    """Names of classes (or sources) in the order of their numbers: the feature's own, else the sorted values."""
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
