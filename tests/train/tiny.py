"""A tiny method and loader with everything a resume has to carry: dropout, a momentum teacher, a queue, view noise."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from counterpoint.data.batch import Batch, View
from counterpoint.data.schema import Row
from counterpoint.train.gradcache import embed

ROWS = [{"row": i, "x": x.tolist()} for i, x in enumerate(np.random.default_rng(7).normal(size=(40, 6)))]


class Loader:
    """Shuffled batches of `ROWS`, for ever; ``shown`` are the row numbers of every batch yielded."""

    def __init__(self, batch: int = 8, rows: Sequence[Row] = ROWS) -> None:
        self.batch, self.rows = batch, rows
        self.steps_per_epoch: int | None = len(rows) // batch
        self.position = 0
        self.shown: list[list[int]] = []

    def __iter__(self) -> Iterator[list[Row]]:
        while True:
            epoch, k = divmod(self.position, self.steps_per_epoch or 1)
            order = np.random.default_rng((3, epoch)).permutation(len(self.rows))
            self.position += 1
            rows = [self.rows[i] for i in order[k * self.batch : (k + 1) * self.batch]]
            self.shown.append([r["row"] for r in rows])
            yield rows

    def state_dict(self) -> dict[str, Any]:
        return {"position": self.position}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.position = state["position"]


class Tiny(nn.Module):
    """Softmax over the batch's keys and a queue of older ones; keys come from a momentum teacher."""

    rounds = 1

    def __init__(self, dropout: float = 0.2, *, noise: float = 0.1) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.encoder = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Dropout(dropout), nn.Linear(8, 4))
        self.teacher = copy.deepcopy(self.encoder).requires_grad_(False)
        self.log_scale = nn.Parameter(torch.tensor(1.0))
        self.register_buffer("queue", F.normalize(torch.randn(16, 4), dim=-1))
        self.register_buffer("head", torch.zeros((), dtype=torch.long))
        self.noise = noise
        self.micro_batch: int | None = None
        self.precision = "float32"
        self.observed: dict[str, Tensor] = {}
        self.keys: list[Tensor] = []

    def views(self, rows: Sequence[Row], rng: np.random.Generator) -> Batch:
        x = np.array([r["x"] for r in rows])
        a, b = (torch.tensor(x + self.noise * rng.normal(size=x.shape), dtype=torch.float32) for _ in range(2))
        views = (View(a, "vector", "anchor"), View(b, "vector", "positive"))
        return Batch(views, torch.tensor([r["row"] for r in rows]))

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        def encode(encoder: nn.Module, role: str) -> Tensor:
            return F.normalize(embed(encoder, batch.one(role).data, self.micro_batch, precision=self.precision), dim=-1)

        q = encode(self.encoder, "anchor")
        with torch.no_grad():
            k = encode(self.teacher, "positive")
        self.keys.append(k)
        scale = self.log_scale.exp()
        self.observed = {"anchor": q.detach(), "positive": k, "scale": scale.detach()}
        scores = scale * q @ torch.cat([k, self.queue]).T
        target = torch.arange(len(q))
        return {"rank": F.cross_entropy(scores, target), "scale": 0.01 * scale.square()}

    def before_training(self, steps: int) -> None:
        self.total = steps

    def before_round(self, number: int) -> None:
        pass

    def after_step(self, step: int) -> None:
        for k in self.keys:
            where = (self.head + torch.arange(len(k))) % len(self.queue)
            self.queue[where] = k
            self.head += len(k)
        self.keys.clear()
        with torch.no_grad():
            for t, p in zip(self.teacher.parameters(), self.encoder.parameters()):
                t.lerp_(p, 0.1)

    def towers(self) -> Mapping[str, nn.Module]:
        return {"vector": self.encoder}


def spread(method: Tiny) -> dict[str, float]:
    """An evaluation that draws random numbers."""
    with torch.no_grad():
        z = method.encoder(torch.tensor([r["x"] for r in ROWS])) + 0.01 * torch.randn(len(ROWS), 4)
    return {"spread": float(z.std(0).mean()), "norm": float(z.norm())}


def same_weights(one: Mapping[str, Tensor], two: Mapping[str, Tensor]) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)
