"""Every method trains with several processes, whole on each and in shards: what they hold stays equal, bit for bit."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from counterpoint.data.schema import Row
from counterpoint.methods.base import discover
from counterpoint.processes import rank, world
from counterpoint.train.config import TrainConfig
from counterpoint.train.loop import Trainer
from tests.conformance.rows import build, rows
from tests.processes import spread

pytest.importorskip("PIL")

CASES = [(name, kind) for name, cls in discover().items() for kind in cls.spec.needs]
PARTS = 3
"""Of the cases, each with processes of its own, so that none takes long."""
SLOW = (__name__, "transformers.models.bert.modeling_bert", "transformers.models.gpt2.modeling_gpt2")
"""Modules that take long to import."""


class Loader:
    """The same nine rows in every step, shared by the processes."""

    steps_per_epoch: int | None = 1

    def __init__(self, kind: str, modality: str) -> None:
        self.rows, self.rank, self.world = rows(kind, 9, modality), rank(), world()

    def __iter__(self) -> Iterator[list[Row]]:
        while True:
            yield self.rows[self.rank :: self.world]

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        pass


def train(rank: int, world: int, part: int, folder: Path) -> None:
    warnings.simplefilter("ignore")
    torch.use_deterministic_algorithms(True)
    for name, kind in CASES[part::PARTS]:
        cls = discover()[name]
        for parallel in ("ddp", "fsdp"):
            modality = cls.spec.modalities[0]
            method = build(cls, modality)
            before = {k: v.clone() for k, v in method.state_dict().items()}
            config = TrainConfig(
                batch=9, steps=3, lr=0.01, parallel=parallel, device="cpu", progress=False, micro_batch=None
            )
            Trainer(method, Loader(kind, modality), config).fit()
            after = method.state_dict()
            moved = any(not torch.equal(after[k], before[k]) for k in before)
            torch.save((moved, after), folder / f"{name}-{kind}-{parallel}-{rank}.pt")


@pytest.fixture(scope="module", params=range(PARTS))
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[int, Path]:
    """A part of the cases, and where what they became lies."""
    folder = tmp_path_factory.mktemp("trained")
    spread(train, 2, request.param, folder, forked=SLOW)
    return request.param, folder


@pytest.mark.slow
@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_processes_hold_the_same(trained: tuple[int, Path], parallel: str) -> None:
    part, folder = trained
    wrong = []
    for name, kind in CASES[part::PARTS]:
        (moved, one), (_, other) = (
            torch.load(folder / f"{name}-{kind}-{parallel}-{rank}.pt", weights_only=True) for rank in range(2)
        )
        wrong += [] if moved else [f"{name} of {kind}: no weight has moved"]
        wrong += [f"{name} of {kind}: {key}" for key, value in one.items() if not torch.equal(other[key], value)]
    assert not wrong
