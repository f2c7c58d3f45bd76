"""Mean embeddings of groups, in one process and in many."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from counterpoint.encoders import centroids as module
from counterpoint.encoders.centroids import centroids, group_means
from counterpoint.processes import alone
from tests.processes import spread
from tests.toys import Vectors

Z = np.random.default_rng(0).normal(size=(7, 3)).tolist()
OWNERS = np.array([[0, 1], [1, 0], [2, 1], [3, 2], [4, 1], [5, 3], [6, 0], [6, 2]])


def test_an_item_of_two_groups_counts_in_both() -> None:
    z = torch.tensor(Z)
    expected = torch.stack([z[[1, 6]].mean(0), z[[0, 2, 4]].mean(0), z[[3, 6]].mean(0), z[5]])
    torch.testing.assert_close(centroids(Vectors(3), Z, OWNERS, 4), expected)


def test_they_do_not_depend_on_the_parts_they_are_made_in(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = centroids(Vectors(3), Z, OWNERS, 4)
    monkeypatch.setattr(module, "PART", 2)
    torch.testing.assert_close(centroids(Vectors(3), Z, OWNERS, 4), whole)


def share(rank: int, world: int) -> None:
    module.PART = 2
    together = centroids(Vectors(3), Z, OWNERS, 4)
    with alone():
        torch.testing.assert_close(together, centroids(Vectors(3), Z, OWNERS, 4))


@pytest.mark.slow
def test_every_process_encodes_a_share() -> None:
    spread(share, 2)


def test_means_of_groups_without_those_of_none() -> None:
    z = torch.tensor(Z[:4])
    found = group_means(z, torch.tensor([2, -1, 0, 2]))
    torch.testing.assert_close(found, torch.stack([z[2], torch.zeros(3), (z[0] + z[3]) / 2]))
