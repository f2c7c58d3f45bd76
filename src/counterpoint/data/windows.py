"""One series: steps of time with a value for each channel; the rows are windows of it.

How a table becomes a series: `counterpoint.data.steps`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, TypeAlias

import numpy as np

from counterpoint.data.fingerprint import of_arrays
from counterpoint.data.log import Log
from counterpoint.data.rowset import Numbered
from counterpoint.data.schema import Known, Row, Schema
from counterpoint.errors import ConfigError, DataError
from counterpoint.modalities.series import SERIES

Part: TypeAlias = Literal["train", "dev", "test"]
PARTS: tuple[Part, ...] = ("train", "dev", "test")
SHARES = (0.7, 0.1)
"""Of the steps: the earliest to learn from, and the next ones to choose by; the latest are measured on."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Series:
    """values: (T, C) float32, in the units of the source. names: of the C channels. borders: the steps before which the
    training, the dev and the test part end (None: at 70 %, 80 % and the end).

    Everything that is learned from data, mean and deviation included, is of the training part alone.
    """

    values: np.ndarray
    names: tuple[str, ...]
    borders: tuple[int, int, int] | None = None

    def __post_init__(self) -> None:
        values = np.asarray(self.values, dtype=np.float32)
        if values.ndim != 2 or 0 in values.shape or values.shape[1] != len(self.names):
            raise DataError(
                f"The series has shape {values.shape} and {len(self.names)} names; expected (T, C) values, a row for "
                "each step of time, and a name for each channel."
            )
        if (bad := ~np.isfinite(values)).any():
            holed = [name for name, some in zip(self.names, np.any(bad, axis=0)) if some]
            first = int(np.flatnonzero(bad.any(1))[0])
            raise DataError(
                f"{int(bad.any(1).sum()):,} of {len(values):,} steps have gaps (no value, NaN or infinity), in "
                f"{', '.join(holed[:5])}{' and others' if len(holed) > 5 else ''}; the first is row {first:,}. Fill "
                "them (pandas: table.interpolate()), or name the channels without gaps: --columns series=NAME,..."
            )
        n = len(values)
        borders = self.borders or (int(SHARES[0] * n), int(sum(SHARES) * n), n)
        if not 2 <= borders[0] <= borders[1] <= borders[2] <= n:
            raise DataError(f"The parts of the series end before the steps {borders}; they must grow, up to {n:,}.")
        object.__setattr__(self, "values", values)
        object.__setattr__(self, "borders", borders)

    def __len__(self) -> int:
        return len(self.values)

    def span(self, part: Part) -> tuple[int, int]:
        """First step of a part, and the one behind its last."""
        assert self.borders is not None
        ends = (0, *self.borders)
        return ends[PARTS.index(part)], ends[PARTS.index(part) + 1]

    @cached_property
    def mean(self) -> np.ndarray:
        """Of the training steps, ``(C,)`` float64."""
        return self.values[: self.span("train")[1]].mean(0, dtype=np.float64)

    @cached_property
    def deviation(self) -> np.ndarray:
        """Of the training steps, ``(C,)`` float64; 1 for a channel that is constant there."""
        train = self.values[: self.span("train")[1]].astype(np.float64)
        found = train.std(0)
        # Of equal float32 numbers the deviation is rounding, not 0, where they are large.
        return np.where(train.max(0) > train.min(0), found, 1.0)

    @cached_property
    def scaled(self) -> np.ndarray:
        """``(T, C)`` float32: values less the mean, divided by the deviation of the training part."""
        return ((self.values - self.mean) / self.deviation).astype(np.float32)


class Windows(Numbered):
    """Windows of a part of a series as rows: ``{"series": (L, C), "horizon": (H, C), "row": step}``, float32, in the
    units of the source: the ``length`` L steps before a step, and the ``horizon`` H steps from it on.

    What is to be foretold lies in the part as a whole; what it is foretold from may begin in the part before.

    series: with all its parts. part: ``train``, ``dev`` or ``test``. why: how it was decided that these are a series.
    log: of the rows (None: a new one). index: ``(M,)`` numbers of the windows that are rows (None: all).
    """

    def __init__(
        self,
        series: Series,
        part: Part = "train",
        *,
        length: int = 1,
        horizon: int = 0,
        why: str = "a series",
        log: Log | None = None,
        index: np.ndarray | None = None,
    ) -> None:
        if length < 1 or horizon < 0:
            raise ConfigError(f"length={length}, horizon={horizon}: expected length >= 1 and horizon >= 0.")
        self.series, self.part, self.length, self.horizon = series, part, length, horizon
        self.log = Log() if log is None else log
        start, end = series.span(part)
        self.index = np.arange(max(start, length), end - horizon + 1) if index is None else index
        if index is None and not len(self.index):
            raise DataError(
                f"The {part} part of the series has {end - start:,} of its {len(series):,} steps, fewer than a window "
                f"needs ({length} to look back on, {horizon} to foretell). Give a longer series, or smaller windows: "
                "--set length=L horizon=H."
            )
        self.why = why
        self.schema = Schema(kind="series", columns={SERIES: list(series.names)}, modalities={SERIES: SERIES}, why=why)

    def fingerprint(self) -> int:
        """32 bits of the values of the series."""
        return of_arrays(self.series.values)

    def _row(self, step: int) -> Row:
        values = self.series.values
        return {
            SERIES: values[step - self.length : step],
            "horizon": values[step : step + self.horizon],
            "row": step,
        }

    def known(self, modality: str) -> Known:
        """The channels of the series."""
        s = self.series
        return Known(names=s.names, mean=s.mean.tolist(), deviation=s.deviation.tolist())

    def like(self, part: Part, *, length: int | None = None, horizon: int | None = None) -> Windows:
        """Windows of a part of the same series, of the same or of other sizes."""
        return Windows(
            self.series,
            part,
            length=self.length if length is None else length,
            horizon=self.horizon if horizon is None else horizon,
            why=self.why,
            log=self.log,
        )

    def arrays(self, which: slice | np.ndarray = slice(None)) -> tuple[np.ndarray, np.ndarray]:
        """Standardised look-backs ``(N, L, C)`` and horizons ``(N, H, C)`` of the rows at these positions.

        which: positions, or a slice.
        """
        at = self.index[which][:, None]
        scaled = self.series.scaled
        return scaled[at + np.arange(-self.length, 0)], scaled[at + np.arange(self.horizon)]


def look_backs(values: np.ndarray, length: int) -> Sequence[np.ndarray]:
    """The ``(T - L + 1)`` windows ``(L, C)`` of values ``(T, C)``, one that ends with each step from the L-th on.

    length: L.
    """
    if len(values) < length:
        raise DataError(f"{len(values):,} steps hold no window of {length}. Give a longer series.")
    return [values[end - length : end] for end in range(length, len(values) + 1)]
