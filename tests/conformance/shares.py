"""Steps of a method on whole batches, or on one process's share of each, with all that the two must have in common."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from counterpoint.data.batch import Batch, View
from counterpoint.data.schema import Row
from counterpoint.methods.base import Method, discover
from counterpoint.processes import transported
from counterpoint.train import batchnorm
from tests.conformance.rows import build, rows

ROWS, STEPS = 9, 2
SHARES = {2: (1, 8), 3: (5, 0, 4)}
"""Rows of each process, by the number of processes."""
TRANSPORT = {1: "gather", 2: "ring", 3: "gather"}

SETTINGS: dict[str, tuple[dict[str, Any], ...]] = {
    "ccp": ({"mixed": True}, {"asymmetric": False}),
    "coconut": ({"choice": "herding", "positives": "student"}, {"negatives": "teacher"}, {"printed": True}),
    "codiemb": ({"ranked_by": "order", "scored_by": "contrast", "threshold": 0.5}, {"scored_by": "order"}),
    "contrastive-search": ({"weight": "pairs"},),
    "contriever": ({"negatives": "in-batch"},),
    "cwcl": ({"centre": True, "sharpen": 2.0, "weighted": "both"},),
    "debcse": ({"negatives": 2, "edits": 1, "guard": False},),
    "directpred": ({"predictor": "copy"}, {"predictor": "trained", "centred": True}),
    "dna-esa": ({"both": True},),
    "graded": ({"angle": 1.0},),
    "in-batch": ({"both": False, "learnable": True},),
    "loss-behaviour": ({"loss": "simple"}, {"loss": "hard-simple"}, {"loss": "contrastive", "norm": "batch"}),
    "moe-embeddings": ({"routing": "token", "experts": 2, "supervised": 0.1}, {"routing": "text", "experts": 4}),
    "multicsr": ({"phi": 1.0}, {"phi": 0.2}),
    "obow": ({"head": "fixed", "pool": "mean"}, {"levels": 2, "assignment": "hard"}),
    "primer": ({"loss": "ranking"}, {"loss": "crops"}),
    "sc-mil": ({"views": 2, "curriculum": "none"},),
    "scgc": ({"star": True},),
    "tip": ({"itm": False},),
    "ts-forecasting": (
        {"contrast": "hierarchical"},
        {"contrast": "both", "query": "mean"},
        {"contrast": "cost"},
    ),
    "two-tower": ({"form": "sigmoid"},),
    "w2v-bert": ({"distractors": 4, "target_grad": True},),
    "whitenedcse": ({"shuffle": "blocks"}, {"groups": 0, "through_statistics": True}),
}
"""Settings beside the usual ones by which a method takes other ways through its losses and memories."""


@dataclass(frozen=True, eq=False)
class Case:
    """A method on rows of one kind, with some settings of its own."""

    name: str
    kind: str
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        said = ", ".join(f"{key}={value}" for key, value in self.settings.items())
        return f"{self.name} of {self.kind}" + (f" with {said}" if said else "")

    def given(self, step: int) -> list[Row]:
        """The rows of a step."""
        cls = discover()[self.name]
        if self.settings.get("apart") is False:  # a batch of two tasks
            some = [*rows("pairs", 5, seed=step), *rows("scored", ROWS - 5, seed=step)]
            return [{**row, "row": i} for i, row in enumerate(some)]
        found = rows(self.kind, ROWS, cls.spec.modalities[0], seed=step)
        if self.name == "coconut":  # each step is a task, with classes of its own
            return [{**r, "label": r["label"] % 2 if step == 1 else 2, "row": r["row"] + ROWS * step} for r in found]
        return found


def cases() -> list[Case]:
    """Every method on every kind of rows; with other settings on rows of its first kind only."""
    found = []
    for name, cls in discover().items():
        found += [Case(name, kind) for kind in cls.spec.needs]
        found += [Case(name, cls.spec.needs[0], settings) for settings in SETTINGS.get(name, ())]
    return [*found, Case("primer", "labelled", {"loss": "ranking"}), Case("codiemb", "mixed", {"apart": False})]


def found_in_steps(case: Case, world: int = 1, rank: int = 0) -> dict[str, Tensor]:
    """Losses and gradients of each step and the state after the last, as one of so many processes has them.

    All in float64, without dropout, which is each process's own; batch normalisation by the rows of all. Weights move
    between the steps, and memories with them.
    """
    out: dict[str, Tensor] = {}
    with in_float64(), transported(TRANSPORT[world]):  # type: ignore[arg-type]
        cls = discover()[case.name]
        method = build(cls, cls.spec.modalities[0], settings=case.settings, still=True).train()
        method.before_training(STEPS + 1)
        weights = {name: p for name, p in method.named_parameters() if p.requires_grad}
        with batchnorm.synced(method):
            for step in range(1, STEPS + 1):
                batch = share(method, case.given(step), step, world, rank)
                torch.manual_seed(step if rank == 0 else 100 * step + rank)
                losses = method.losses(batch)
                method.zero_grad()
                torch.stack(list(losses.values())).sum().backward()
                out |= {f"{name} of step {step}": loss.detach() for name, loss in losses.items()}
                for (name, weight), grad in zip(weights.items(), averaged(list(weights.values()), world)):
                    out[f"gradient of {name} in step {step}"] = grad
                    weight.data.sub_(0.01 * grad)
                method.after_step(step)
    return out | {f"{name} at the end": x for name, x in method.state_dict().items()}


def averaged(weights: list[Tensor], world: int) -> list[Tensor]:
    """Their gradients, as DDP leaves them: 0 where a process has none, and the mean over the processes."""
    flat = torch.cat([(torch.zeros_like(w) if w.grad is None else w.grad).flatten() for w in weights])
    if world > 1:
        dist.all_reduce(flat)
    parts = (flat / world).split([w.numel() for w in weights])
    return [part.view_as(w) for part, w in zip(parts, weights)]


@contextmanager
def in_float64() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


# --- shares of a batch -----------------------------------------------------------------------------------------------


def share(method: Method, given: list[Row], step: int, world: int, rank: int) -> Batch:
    """The batch of these rows, or a process's share of it: its views are drawn once, for all rows.

    A graph is computed whole by every process. Who has no row makes a batch of none, as in a training.
    """
    rng = np.random.default_rng(step)
    batch = different(doubled(method.views(given, rng)))
    if world == 1 or "graph" in {view.stream for view in batch.views}:
        return batch
    start = sum(SHARES[world][:rank])
    here = slice(start, start + SHARES[world][rank])
    if here.start == here.stop:
        return doubled(method.views([], rng))
    views = tuple(own for view in batch.views if (own := part(view, here)) is not None)
    return Batch(views, batch.rows[here], {name: x[here] for name, x in batch.labels.items()})


def part(view: View, rows: slice) -> View | None:
    """The items of some rows; None where hard negatives, or a task, are of other rows alone."""
    if view.owner is None:
        return view.take(rows)
    own = view.take((view.owner >= rows.start) & (view.owner < rows.stop))
    assert own.owner is not None
    optional = view.role in ("negative", "guide negative", "a", "b")
    return None if optional and not len(own) else replace(own, owner=own.owner - rows.start)


def doubled(batch: Batch) -> Batch:
    """In float64."""

    def double(data: Any) -> Any:
        if isinstance(data, Tensor):
            return data.double() if data.is_floating_point() else data
        return type(data)({name: double(x) for name, x in data.items()})

    views = tuple(replace(view, data=double(view.data)) for view in batch.views)
    return replace(batch, views=views, labels=double(dict(batch.labels)))


def different(batch: Batch) -> Batch:
    """Views of a text that only dropout would tell apart hold different halves of its tokens."""
    views: list[View] = []
    for view in batch.views:
        text, data = batch.views[0].data, view.data
        if views and isinstance(text, Mapping) and isinstance(data, Mapping) and "input_ids" in text:
            same = view.stream == views[0].stream and torch.equal(text["input_ids"], data["input_ids"])
            data = {name: x[:, len(views) % 2 :: 2] for name, x in data.items()} if same else data
        views.append(replace(view, data=data))
    return replace(batch, views=tuple(views))
