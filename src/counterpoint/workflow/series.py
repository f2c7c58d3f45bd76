"""One series as the data of a run: found in a source, cut into the windows that a method asks for, embedded by step."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch

from counterpoint.data import objects
from counterpoint.data.files.read import Source
from counterpoint.data.log import Log
from counterpoint.data.schema import RowSet, Schema
from counterpoint.data.sets import registry
from counterpoint.data.steps import named, series_of, times
from counterpoint.data.stream import Stream
from counterpoint.data.windows import PARTS, Series, Windows
from counterpoint.encoders.base import Encoder
from counterpoint.encoders.series import SeriesEncoder
from counterpoint.errors import DataError, ModelError, NotFiniteError
from counterpoint.modalities.series import SERIES
from counterpoint.workflow.sources import read_all

BLOCK = 4096
"""Windows embedded at once."""


def registered_series(data: Source) -> Series | None:
    """The series that a name of the registry stands for, where it is one."""
    named = objects.sources(data)
    if not objects.is_paths(named):
        return None
    known = registry.ENTRIES.get(str(named[0])) if len(named) == 1 and not Path(named[0]).exists() else None
    return registry.load(known.name) if known is not None and known.task == SERIES else None  # type: ignore[return-value]


def read_windows(
    raw: datasets.Dataset | datasets.IterableDataset, schema: Schema, *, test: Source, split: str | None, log: Log
) -> Windows:
    """The training part of the series that a table is."""
    if isinstance(raw, datasets.IterableDataset):
        raise DataError("A series is learned from as a whole: leave --streaming out.")
    if split is not None:
        raise DataError("The parts of a series follow each other in time: leave --split out.")
    return windows_of(series_of(raw, schema, log), schema.why, test=test, log=log)


def windows_of(series: Series, why: str, *, test: Source, log: Log) -> Windows:
    """Each step of the training part as a window, until a method says how long windows are (see `sized`)."""
    if test:
        raise DataError("The steps to measure a series on are its latest: leave --test out, and give all its steps.")
    ends = [f"{part}: {end - start:,}" for part in PARTS for start, end in [series.span(part)]]
    size = f"{len(series):,} steps of {len(series.names)} channels"
    log.note(f"The series has {size}; in order of time {', '.join(ends)}.")
    if flat := [n for n, d in zip(series.names, np.ptp(series.values[: series.span("train")[1]], axis=0)) if d == 0]:
        log.note(f"Constant in the training part, so only their mean is taken off: {', '.join(flat)}.")
    return Windows(series, why=why, log=log)


def sized(windows: RowSet | Stream, encoder: Encoder) -> tuple[Windows, Windows]:
    """The windows to train on and to measure on, of the sizes that the encoder has."""
    assert isinstance(encoder, SeriesEncoder)
    assert isinstance(windows, Windows)
    size = {"length": encoder.config.length, "horizon": encoder.config.horizon}
    windows.like("dev", **size)  # by which things are chosen later: better refused now
    return windows.like("train", **size), windows.like("test", **size)


def embedded_steps(
    encoder: Encoder, rows: datasets.Dataset, *, precision: str = "float32", log: Log
) -> Iterator[np.ndarray]:
    """For each row of a table, in blocks ``(B, D)``, the embedding of the window that ends with it: NaN for the first
    rows, which have too few before them."""
    assert isinstance(encoder, SeriesEncoder)
    values, length = steps_for(encoder, rows, log), encoder.config.length
    if torch.cuda.is_available() and encoder.device.type == "cpu":
        encoder.to("cuda")
    yield np.full((length - 1, encoder.dim), np.nan, dtype=np.float32)
    for first in range(length, len(values) + 1, BLOCK):
        ends = range(first, min(first + BLOCK, len(values) + 1))
        try:
            yield encoder.encode([values[end - length : end] for end in ends], precision=precision)
        except NotFiniteError as error:
            steps = tuple(ends[row] - 1 for row in error.rows)  # of each window the row that it ends with
            raise NotFiniteError(error.tower, steps, error.of, error.weights) from error


def steps_for(encoder: Encoder, rows: datasets.Dataset, log: Log) -> np.ndarray:
    """The values ``(T, C)`` of the channels that a model reads, at least as many steps as its windows have.

    Raises `DataError` for a table without these channels, and for one that is too short.
    """
    assert isinstance(encoder, SeriesEncoder)
    names, length = encoder.config.names, encoder.config.length
    if length < 1 or not names:
        raise ModelError("This encoder does not say which channels it reads, and how long its windows are.")
    if missing := [n for n in names if n not in rows.column_names]:
        raise DataError(f"The model reads the channels {', '.join(names)}; the rows have no column {missing[0]!r}.")
    others = (n for n in rows.column_names if n not in names)
    time = next((n for n in others if times(rows.data.column(n)) is not None), None)
    values: np.ndarray = series_of(rows, named(names, time, "as the model was trained"), log).values
    if len(values) < length:
        raise DataError(f"The rows are {len(values):,} steps; a window of this model has {length}.")
    return values


def window_from(encoder: Encoder, value: Any) -> np.ndarray:
    """A window ``(L, C)`` to search for: the last steps of a file of them, or the numbers of a window, a row a step.

    Raises `DataError` for a window of another shape.
    """
    assert isinstance(encoder, SeriesEncoder)
    length, channels = encoder.config.length, len(encoder.config.names)
    if isinstance(value, str | Path) and Path(value).expanduser().exists():
        return steps_for(encoder, read_all(value, log=Log()), Log())[-length:]
    try:
        found = np.asarray(json.loads(value) if isinstance(value, str) else value, dtype=np.float32)
    except (ValueError, TypeError) as error:
        raise DataError(f"{str(value)[:80]!r} is neither a file of steps nor a list of lists of numbers.") from error
    if found.shape != (length, channels) or not np.isfinite(found).all():
        raise DataError(
            f"A window of this model has {length} steps of the {channels} channels {', '.join(encoder.config.names)}, "
            f"all finite numbers; given was one of the shape {found.shape}."
        )
    return found
