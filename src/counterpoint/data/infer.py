"""From the columns of a data set to its schema: by the names of parts given, else by names, types and values."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from counterpoint.data import layouts
from counterpoint.data.arrange import Change, arranged
from counterpoint.data.decided import decided_schema
from counterpoint.data.files import media
from counterpoint.data.files.plain import is_stream
from counterpoint.data.log import Log
from counterpoint.data.named import named_schema
from counterpoint.data.roles import RANGE, SAMPLE, Columns
from counterpoint.data.schema import Schema
from counterpoint.data.unused import unused
from counterpoint.errors import DataError

if TYPE_CHECKING:
    import datasets


def infer(
    dataset: datasets.Dataset | datasets.IterableDataset,
    *,
    columns: Columns | None = None,
    changes: Sequence[Change] = (),
) -> Schema:
    """The schema of a data set: by ``columns`` (part -> column) where given, else by names, types and values.

    changes: what is changed in it first, as the schema of other rows says. What its own layout needs beyond that (see
    `counterpoint.data.layouts`) is found, and stands in the ``changes`` of the schema; `Rows` makes them.

    Raises `DataError`, naming the columns and the ``--columns`` to type, when a column is missing, of the wrong type
    for its part, or when the columns allow more than one reading.

    dataset: of `datasets`, or a stream, of which the first rows are looked at.
    """
    if is_stream(dataset):
        from datasets import Dataset  # here: importing it takes long

        dataset = media.encoded(dataset)
        rows = list(dataset.take(SAMPLE))
        if not rows:
            raise DataError("The stream gives no rows. Check the source.")
        dataset = Dataset.from_list(rows, features=dataset.features)
    if len(dataset) == 0:
        raise DataError("The data set holds no rows. Check the source and --split.")
    columns = columns if isinstance(columns, Mapping) else {}
    given = without_range(columns)
    log = Log()
    dataset = arranged(dataset, changes, log)
    more = layouts.changes(dataset, given)
    dataset = arranged(dataset, more, log)
    if len(dataset) == 0:
        raise DataError(f"No row is left to learn from. {' '.join(log.lines())}")
    try:
        schema = named_schema(dataset, given) if given else decided_schema(dataset)
    except DataError as error:
        raise DataError(f"{error}{layouts.hint(dataset)}") from error
    schema = replace(schema, changes=(*changes, *more), notes=unused(dataset, schema, given))
    return schema if len(given) == len(columns) else with_range(schema, columns[RANGE])


def without_range(columns: Columns) -> Columns:
    """The parts that columns play; the range of the scores is named among them and is no column."""
    return {part: column for part, column in columns.items() if part != RANGE}


def with_range(schema: Schema, said: str | list[str]) -> Schema:
    """The schema of scored pairs with the scores that there can be, said as ``LOWEST..HIGHEST``."""
    if schema.kind != "scored":
        raise DataError(
            f"{RANGE}={said} says what scores there can be, and these rows have none: {schema.why} Leave it out, or "
            "name the columns of scored pairs: --columns a=COLUMN,b=COLUMN,score=COLUMN"
        )
    try:
        low, high = map(float, str(said).split(".."))
    except ValueError:
        low = high = 0.0
    if not -math.inf < low < high < math.inf:
        raise DataError(
            f"{RANGE}={said}: expected the lowest and the highest score that there can be, for example --columns "
            f"{RANGE}=0..5"
        )
    return replace(schema, range=(low, high))
