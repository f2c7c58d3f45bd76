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


def train(rank: int, world: int, folder: Path) -> None:
    warnings.simplefilter("ignore")
    torch.use_deterministic_algorithms(True)
    for name, kind in CASES:
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


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    spread(train, 2, folder)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
@pytest.mark.parametrize(("name", "kind"), CASES)
def test_processes_hold_the_same(trained: Path, name: str, kind: str, parallel: str) -> None:
    (moved, one), (_, other) = (
        torch.load(trained / f"{name}-{kind}-{parallel}-{rank}.pt", weights_only=True) for rank in range(2)
    )
    assert moved
    for key, value in one.items():
        assert torch.equal(other[key], value), key
