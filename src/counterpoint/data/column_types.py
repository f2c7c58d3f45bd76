"""What a column holds, by its Arrow type, its name and a few of its values: text, numbers, images, recordings."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

from counterpoint.data.audio import RATES
from counterpoint.data.dna import is_dna
from counterpoint.data.files import media
from counterpoint.data.roles import find_name

if TYPE_CHECKING:
    import datasets

FEW = 20  # values that tell DNA from text


def column_type(dataset: datasets.Dataset, name: str) -> str:
    """text, texts (a list of them), number, class, image, or what Arrow calls it."""
    feature = dataset.features[name]
    if type(feature).__name__ in ("Image", "Audio", "ClassLabel"):
        return {"Image": "image", "Audio": "audio", "ClassLabel": "class"}[type(feature).__name__]
    type_ = dataset.data.schema.field(name).type
    if type_ == media.ARROW:
        return media.modality(dataset.data.column(name))
    if is_numbers(type_) and rate_column(dataset):
        return "audio"
    if pa.types.is_string(type_) or pa.types.is_large_string(type_):
        return "dna" if is_dna(dataset.data.column(name).slice(0, FEW).to_pylist()) else "text"
    if is_list(type_) and (pa.types.is_string(type_.value_type) or pa.types.is_large_string(type_.value_type)):
        return "texts"
    if is_list(type_) and pa.types.is_floating(type_.value_type):
        return "vector"
    if pa.types.is_integer(type_) or pa.types.is_floating(type_) or pa.types.is_boolean(type_):
        return "number"
    if pa.types.is_decimal(type_):  # whole numbers of many digits
        return "number"
    return str(type_)


def is_numbers(type_: pa.DataType) -> bool:
    """A list of numbers: a vector, or, where a column beside it gives the rate, sound."""
    return is_list(type_) and (pa.types.is_floating(type_.value_type) or pa.types.is_integer(type_.value_type))


def rate_column(dataset: datasets.Dataset) -> str | None:
    """The column that gives the rate in hertz of samples in another column."""
    schema = dataset.data.schema
    numbers = [
        n for n in dataset.column_names
        if pa.types.is_integer(schema.field(n).type) or pa.types.is_floating(schema.field(n).type)
    ]  # fmt: skip
    return find_name(numbers, RATES)


def is_list(type_: pa.DataType) -> bool:
    return pa.types.is_list(type_) or pa.types.is_large_list(type_) or pa.types.is_fixed_size_list(type_)


def describe(dataset: datasets.Dataset) -> str:
    """The columns with their types, for errors: ``question (text), id (number)``."""
    return ", ".join(f"{name} ({column_type(dataset, name)})" for name in dataset.column_names)
