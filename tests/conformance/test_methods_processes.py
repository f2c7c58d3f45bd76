"""Many processes equal one: every method, with unequal shares of the rows, has its losses, gradients and memories."""

from __future__ import annotations

import traceback
import warnings
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.conformance.shares import Case, cases, found_in_steps
from tests.processes import spread

pytest.importorskip("PIL")

CASES = cases()
GROUPS = 2
"""Parts of the cases, each with processes of its own, so that no test takes long."""
SLOW = (__name__, "transformers.models.bert.modeling_bert", "transformers.models.gpt2.modeling_gpt2")
CLOSE = 1e-9
"""Of the largest entry, at least of 1."""


def chosen(group: int, world: int) -> list[Case]:
    """Settings that are not the usual ones are tried in three processes only."""
    return [case for case in CASES[group::GROUPS] if world > 2 or not case.settings]


@cache
def of_one(case: Case) -> dict[str, Tensor]:
    """What one process finds."""
    return found_in_steps(case)


def work(rank: int, world: int, group: int, folder: Path) -> None:
    warnings.simplefilter("ignore")
    found = []
    for case in chosen(group, world):
        try:
            found.append(found_in_steps(case, world, rank))
        except Exception:
            raise AssertionError(f"{case}, process {rank} of {world}: {traceback.format_exc()}") from None
    torch.save(found, folder / f"{rank}.pt")


def apart(found: dict[str, Tensor], expected: dict[str, Tensor]) -> list[str]:
    """What differs, and by how much."""
    if found.keys() != expected.keys():
        return [f"there are {sorted(found.keys() ^ expected.keys())} on one side only"]
    out = []
    for name, x in expected.items():
        if found[name].shape != x.shape:
            out.append(f"{name} has shape {tuple(found[name].shape)}, expected {tuple(x.shape)}")
        elif x.numel():
            size, error = float(x.double().abs().max()), float((found[name].double() - x.double()).abs().max())
            if not error <= CLOSE * max(1.0, size):
                out.append(f"{name} is off by {error:.1e} of {size:.1e}")
    return out


@pytest.mark.parametrize("world", [2, 3])
@pytest.mark.parametrize("group", range(GROUPS))
def test_every_method_of_many_processes_is_that_of_one(group: int, world: int, tmp_path: Path) -> None:
    with ThreadPoolExecutor(1) as others, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        begun = others.submit(spread, work, world, group, tmp_path, forked=SLOW)
        for case in chosen(group, world):
            of_one(case)  # meanwhile
        begun.result()
    wrong = []
    for rank in range(world):
        found = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        for case, here in zip(chosen(group, world), found, strict=True):
            if differences := apart(here, of_one(case)):
                wrong.append(f"{case}, process {rank} of {world}: {'; '.join(differences[:5])}")
    assert not wrong, "\n".join(wrong)
