"""A method with what is hard for many processes: blocks, a scalar, an unused weight, a teacher, memories."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from counterpoint.data.batch import Batch, View
from counterpoint.data.schema import Row
from counterpoint.memory.queue import Queue
from counterpoint.memory.statistics import RunningMoment
from counterpoint.memory.teacher import Teacher
from counterpoint.objectives.contrast import contrast
from counterpoint.objectives.decorrelate import barlow_twins
from counterpoint.objectives.pairing import Diagonal
from counterpoint.objectives.predict import negative_cosine
from counterpoint.objectives.scale import LogitScale
from counterpoint.processes import rank, world
from counterpoint.train.config import TrainConfig
from counterpoint.train.gradcache import embed

ROWS = [{"row": i, "x": x.tolist()} for i, x in enumerate(np.random.default_rng(5).normal(size=(44, 6)))]


def settings(**changes: Any) -> TrainConfig:
    base: dict[str, Any] = {
        "batch": 11,
        "steps": 6,
        "lr": 0.05,
        "device": "cpu",
        "progress": False,
        "tensorboard": False,
        "log_every": 1,
    }
    return TrainConfig(**{**base, **changes})


class Shares:
    """Shuffled batches of `ROWS`, of which each process takes every ``world``-th row."""

    steps_per_epoch: int | None = 4

    def __init__(self) -> None:
        self.rank, self.world, self.position = rank(), world(), 0

    def __iter__(self) -> Iterator[list[Row]]:
        while True:
            epoch, k = divmod(self.position, 4)
            order = np.random.default_rng((3, epoch)).permutation(len(ROWS))[k * 11 : (k + 1) * 11]
            self.position += 1
            yield [ROWS[i] for i in order[self.rank :: self.world]]

    def state_dict(self) -> dict[str, Any]:
        return {"position": self.position}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.position = state["position"]


class Net(nn.Module):
    """Layers in a list, as transformers have them."""

    def __init__(self, norm: bool, dropout: float) -> None:
        super().__init__()
        self.first = nn.Linear(6, 7)
        self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(7, 7), nn.Tanh(), nn.Dropout(dropout)) for _ in range(2))
        self.norm = nn.BatchNorm1d(7) if norm else nn.LayerNorm(7)
        self.last = nn.Linear(7, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        for block in self.blocks:
            x = x + block(x)
        return self.last(self.norm(x))


class Spread(nn.Module):
    """kind: ``contrast`` (gather), ``barlow`` (global statistic), ``teacher`` (local), ``statistic`` (a weight set from
    a running moment after each step), ``queue`` (memory)."""

    rounds = 1

    def __init__(self, kind: str, *, norm: bool = False, dropout: float = 0.0, noise: float = 0.0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.kind, self.noise = kind, noise
        self.encoder = Net(norm, dropout)
        self.unused = nn.Linear(3, 2)
        self.scale = LogitScale(0.2, learnable=True)
        self.teacher = Teacher(self.encoder, momentum=0.9, copy_buffers=False)
        self.predictor = nn.Linear(5, 5, bias=False).requires_grad_(False)
        self.moment = RunningMoment(5, 0.3)
        self.queue = Queue(22, 5)
        self.double()
        self.micro_batch: Any = None
        self.precision = "float32"
        self.batch_statistics = "refuse"
        self.observed: dict[str, Tensor] = {}
        self.seen: list[Tensor] = []

    def views(self, rows: Sequence[Row], rng: np.random.Generator) -> Batch:
        x = np.array([r["x"] for r in rows])
        a, b = (torch.tensor(x * scale + self.noise * rng.normal(size=x.shape)) for scale in (1.0, 0.7))
        return Batch((View(a, "v", "anchor"), View(b + 0.1, "v", "positive")), torch.tensor([r["row"] for r in rows]))

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        a, b = (embed(self.encoder, batch.one(role).data, self.micro_batch) for role in ("anchor", "positive"))
        with torch.no_grad():
            t = self.teacher(batch.one("positive").data)
        self.observed = {"anchor": a.detach(), "positive": b.detach()}
        if self.training:
            self.seen.append(a.detach())
        match self.kind:
            case "contrast":
                q, k = F.normalize(a, dim=-1), F.normalize(b, dim=-1)
                return {"rank": contrast(q, k, Diagonal(), scale=self.scale())}
            case "barlow":
                return {"decorrelate": barlow_twins(a, b)}
            case "teacher":
                return {"predict": negative_cosine(a, t), "scale": 0.1 * self.scale()}
            case "statistic":
                return {"predict": negative_cosine(self.predictor(a), t)}
        return {"away": barlow_twins(a, b), "queue": -negative_cosine(a, self.queue.snapshot().mean(0).expand_as(a))}

    def before_training(self, steps: int) -> None:
        pass

    def before_round(self, number: int) -> None:
        pass

    def after_step(self, step: int) -> None:
        self.teacher.update(self.encoder)
        seen = torch.cat(self.seen)
        self.seen.clear()
        self.moment.update(seen)
        self.queue.push(seen)
        with torch.no_grad():
            self.predictor.weight.copy_(torch.eye(5).to(seen) + self.moment.moment)


def figures(method: Spread) -> dict[str, float]:
    """An evaluation that draws random numbers."""
    with torch.no_grad():
        z = method.encoder(torch.tensor([r["x"] for r in ROWS]).double()) + 0.01 * torch.randn(len(ROWS), 5)
    return {"spread": float(z.std(0).mean())}
