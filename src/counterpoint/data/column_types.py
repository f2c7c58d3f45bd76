"""What a column holds, by its Arrow type, its name and a few of its values: items of a modality, numbers, classes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

from counterpoint.modalities.base import Column, is_list, is_number, is_text, is_truth, of_column, of_feature

if TYPE_CHECKING:
    import datasets

LISTS, NUMBER, CLASS = "texts", "number", "class"
"""Of columns of lists of texts, of numbers, and of classes."""


def column_type(dataset: datasets.Dataset, name: str) -> str:
    """The name of a modality (``text``, ``image``), `LISTS`, `NUMBER`, `CLASS`, or what Arrow calls it.

    dataset: of `datasets`. name: of the column.
    """
    feature = dataset.features[name]
    if type(feature).__name__ == "ClassLabel":
        return CLASS
    column = column_of(dataset, name)
    if modality := of_feature(feature) or of_column(column):
        return modality.name
    if is_list(column.type) and is_text(column.type.value_type):
        return LISTS
    number = is_number(column.type) or is_truth(column.type) or pa.types.is_decimal(column.type)
    return NUMBER if number else str(column.type)


def column_of(dataset: datasets.Dataset, name: str) -> Column:
    """A column as modalities look at it.

    dataset: of `datasets`. name: of the column.
    """
    return Column.of(dataset.data, name)


def describe(dataset: datasets.Dataset) -> str:
    """The columns with their types, for errors: ``question (text), id (number)``.

    dataset: of `datasets`.
    """
    return ", ".join(f"{name} ({column_type(dataset, name)})" for name in dataset.column_names)
