"""What cheap vectors cost: the quality that is lost beside the bytes that are saved, on the same examples."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from rich.table import Table
from rich.text import Text

from counterpoint.data.schema import Row
from counterpoint.data.sets.beir import Retrieval
from counterpoint.encoders.base import Encoder
from counterpoint.errors import ConfigError
from counterpoint.evaluate.evaluate import kind_of
from counterpoint.evaluate.intervals import Interval, Sample, interval, percentiles
from counterpoint.evaluate.retrieval import METRICS
from counterpoint.evaluate.tasks import Labelled, Ranking, Samples, Scored, split
from counterpoint.search.quantise import Dtype, Vectors, check_dims, truncated

if TYPE_CHECKING:
    from counterpoint.data.rows import Rows

CLEAR = 0.05
"""Share of the quality whose loss by truncation is worth a sentence."""


@dataclass(frozen=True)
class Kept:
    """Vectors kept in some way. rescore: what else is kept, of the whole width, to score the best again by.

    dim: dimensions. dtype: of each.
    """

    dim: int
    dtype: Dtype
    rescore: Literal["int8"] | None = None

    def __str__(self) -> str:
        return f"{self.dtype} + {self.rescore}" if self.rescore else self.dtype

    def bytes(self, width: int) -> tuple[int, int]:
        """Of a vector: those that are searched, those it is scored again by."""
        each = {"float32": 4 * self.dim, "float16": 2 * self.dim, "int8": self.dim}.get(self.dtype, -(-self.dim // 8))
        return each, width if self.rescore else 0


@dataclass(frozen=True)
class Line:
    """One way of keeping vectors: every metric, and how much of it is lost (paired; negative: gained).

    kept: the way. metrics: by name. lost: by name.
    """

    kept: Kept
    metrics: dict[str, Interval]
    lost: dict[str, Interval]


@dataclass(frozen=True)
class Costs:
    """The first line is that of whole float32 vectors. width: dimensions of the model. metric: what is shown.

    task: in words. lines: one for each way. counts: of queries and documents. notes: sentences for the reader.
    """

    task: str
    width: int
    metric: str
    lines: tuple[Line, ...]
    counts: dict[str, int]
    notes: tuple[str, ...] = field(default=())

    def table(self, *, name: str = "model") -> Table:
        """Quality, quality lost, bytes per vector, bytes saved: a line for each way.

        name: of the model, for the title.
        """
        counts = ", ".join(f"{n:,} {what}" for what, n in self.counts.items())
        caption = f"{counts}; losses with their paired 95 % intervals; bytes are those of a vector"
        if any(line.kept.rescore for line in self.lines):
            caption += "; + int8: the best by signs, scored again by int8"
        out = Table(title=f"{name}: {self.task}", caption=caption)
        for column in ("dim", "dtype", self.metric, "lost", "bytes", "saved"):
            out.add_column(column, justify="left" if column == "dtype" else "right", no_wrap=True)
        for at, line in enumerate(self.lines):
            found, again = line.kept.bytes(self.width)
            lost = line.lost[self.metric]
            clear = lost.low > 0 or lost.high < 0
            shown = Text(lost.text("+"), style="bold" if clear else "")
            out.add_row(
                str(line.kept.dim), str(line.kept), f"{line.metrics[self.metric].value:.3f}", shown if at else "",
                f"{found:,} + {again:,}" if again else f"{found:,}",
                f"{1 - (found + again) / (4 * self.width):.1%}" if at else "",
            )  # fmt: skip
        return out

    def to_json(self) -> dict[str, Any]:
        """Plain values for `json.dumps`; what is not defined is None."""

        def plain(x: Interval) -> dict[str, Any]:
            number = [v if math.isfinite(v) else None for v in (x.value, x.low, x.high)]
            return {"value": number[0], "ci95": number[1:]}

        lines = []
        for line in self.lines:
            found, again = line.kept.bytes(self.width)
            lines.append(
                {
                    "dim": line.kept.dim,
                    "dtype": line.kept.dtype,
                    "rescore": line.kept.rescore,
                    "bytes": found,
                    "bytes_rescore": again,
                    "saved": 1 - (found + again) / (4 * self.width),
                    "metrics": {m: {**plain(x), "lost": plain(line.lost[m])} for m, x in line.metrics.items()},
                }
            )
        return {"task": self.task, "width": self.width, "counts": self.counts, "lines": lines,
                "notes": list(self.notes)}  # fmt: skip


def costs(
    encoder: Encoder | Mapping[str, Encoder],
    data: Retrieval | Rows | Sequence[Row],
    *,
    dims: Sequence[int] = (),
    dtypes: Sequence[Dtype] = ("float32",),
    train: Rows | Sequence[Row] | None = None,
    oversample: int = 4,
    depth: int = 1_000,
    k: int = 20,
    draws: int = 1_000,
    seed: int = 0,
) -> Costs:
    """Measure an encoder with its vectors kept in every way that ``dims`` and ``dtypes`` make, beside whole float32.

    Rankings are those of an index: queries stay as they are, documents are cheap, and binary vectors are measured
    alone and with the ``oversample · K`` best scored again by int8, where the metric looks at K. In other tasks both
    sides are what the codes stand for. data, train, depth, k, draws, seed: as of `evaluate`.

    Raises ConfigError for more dimensions than the encoder has, and for rows of two modalities.

    >>> from counterpoint.encoders.static import StaticText
    >>> rows = [{"anchor": f"question {i} of many", "positive": f"answer {i}"} for i in range(20)]
    >>> found = costs(StaticText.example(), rows, dtypes=("float32", "binary"), draws=10)
    >>> [line.kept.dtype for line in found.lines]
    ['float32', 'binary', 'binary']
    """
    kind = kind_of(data)
    if kind == "towers" or isinstance(encoder, Mapping):
        raise ConfigError("Cheap vectors are measured on rows of one modality. Leave --dim and --dtype out.")
    check_dims(dims, encoder.dim)
    if isinstance(data, Retrieval) or kind == "pairs":
        ranking = (
            Ranking.of_retrieval(data, exclude_self=False)
            if isinstance(data, Retrieval)
            else Ranking.of_pairs(data, "anchor", "positive")
        )
        queries = encoder.encode(ranking.queries, role="query", normalize=True)
        documents = encoder.encode(ranking.documents, role="document", normalize=True)
        counts, task, notes = ranking.counts(), "retrieval", list(ranking.notes)

        def measured(kept: Kept) -> Samples:
            return _ranked(ranking, queries, documents, kept, oversample=oversample, depth=depth)

    elif kind == "scored":
        scored = Scored.of_rows(data)
        pairs = encoder.encode(scored.a + scored.b, normalize=True)
        counts, task, notes = {"pairs": len(scored.a)}, "pair classification" if scored.binary else "similarity", []

        def measured(kept: Kept) -> Samples:
            z = Vectors.of(pairs, kept.dtype, dim=kept.dim).floats(slice(None))
            return scored.samples(z[: len(scored.a)], z[len(scored.a) :])

    else:
        notes = []
        if train is None:
            train, data = split(data, seed=seed)
            notes.append("No training rows were given: 70 % of the rows, drawn by class, train; the rest is tested on.")
        labelled = Labelled.of_rows(train, data)
        items = encoder.encode(labelled.train + labelled.test, normalize=True)
        task, n = "classification", len(labelled.train)
        counts = {"training rows": n, "test rows": len(labelled.test), "classes": labelled.classes}

        def measured(kept: Kept) -> Samples:
            z = Vectors.of(items, kept.dtype, dim=kept.dim).floats(slice(None))
            return labelled.samples(z[:n], z[n:], k=k, seed=seed)[0]

    ways = list(_ways(dims or (encoder.dim,), dtypes, encoder.dim, ranked=task == "retrieval"))
    lines = _lines(ways, measured, draws=draws, seed=seed)
    metric = next(iter(lines[0].metrics))
    return Costs(task, encoder.dim, metric, lines, counts, (*notes, *_told(lines, encoder.dim, metric)))


def _ways(dims: Sequence[int], dtypes: Sequence[Dtype], width: int, *, ranked: bool) -> Iterator[Kept]:
    whole = Kept(width, "float32")
    yield whole
    for dim in sorted(set(dims), reverse=True):
        for dtype in dict.fromkeys(dtypes):
            if (kept := Kept(dim, dtype)) != whole:
                yield kept
            if ranked and dtype in ("binary", "ubinary"):
                yield Kept(dim, dtype, "int8")


def _lines(ways: Sequence[Kept], measured: Callable[[Kept], Samples], *, draws: int, seed: int) -> tuple[Line, ...]:
    whole = measured(ways[0])
    drawn = {metric: sample.replicates(draws=draws, seed=seed) for metric, sample in whole.items()}
    out = []
    for kept in ways:
        found: dict[str, Sample] = whole if kept == ways[0] else measured(kept)
        metrics, lost = {}, {}
        for metric, sample in found.items():
            metrics[metric] = interval(sample, draws=draws, seed=seed)
            # The same seed draws the same examples, so the loss is paired.
            apart = drawn[metric] - sample.replicates(draws=draws, seed=seed)
            lost[metric] = percentiles(whole[metric].value - sample.value, apart)
        out.append(Line(kept, metrics, lost))
    return tuple(out)


def _ranked(
    ranking: Ranking, queries: np.ndarray, documents: np.ndarray, kept: Kept, *, oversample: int, depth: int
) -> Samples:
    cheap = Vectors.of(documents, kept.dtype, dim=kept.dim)
    asked = queries if kept.dim == queries.shape[1] else truncated(queries, kept.dim)
    if kept.rescore is None:
        return ranking.samples(cheap.nearest(asked, depth)[1])
    full, out = Vectors.of(documents, kept.rescore), {}
    for metric in METRICS:  # how many are scored again depends on how many are asked for
        at = int(metric.partition("@")[2] or depth)
        ids = cheap.nearest(asked, oversample * at)[1]
        out[metric] = ranking.samples(full.rescored(queries, ids, at)[1])[metric]
    return out


def _told(lines: Sequence[Line], width: int, metric: str) -> Iterator[str]:
    """A sentence for each truncation of float vectors that clearly costs."""
    whole = lines[0].metrics[metric].value
    for line in lines[1:]:
        lost = line.lost[metric]
        if line.kept.dtype == "float32" and line.kept.dim < width and lost.low > 0 and lost.value > CLEAR * abs(whole):
            yield (
                f"Cut to {line.kept.dim:,} of {width:,} dimensions the model loses {lost.value / whole:.0%} of its "
                f"{metric}: it was not trained for that, or not for so few."
            )
