import numpy as np
import torch
from torch import Tensor, nn

from counterpoint.data.batch import Data
from counterpoint.encoders.base import Encoder
from counterpoint.evaluate.baselines import bm25, fresh, majority, random_ranking


class Net(Encoder):
    """Layers that reset themselves, a bare parameter, and a scale that does not reset itself."""

    modality = "text"
    dim = 3

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
        self.scale = Scale(3)
        self.token = nn.Parameter(torch.full((2, 3), 9.0))

    def collate(self, items, role=None) -> Data:
        return torch.tensor(items)

    def forward(self, data: Data) -> Tensor:
        return self.scale(self.layer(data))


class Scale(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((dim,), 5.0))
        self.bias = nn.Parameter(torch.full((dim,), 7.0))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight + self.bias


def test_fresh_forgets_everything_and_leaves_the_original_alone():
    trained = Net()
    with torch.no_grad():
        for p in trained.parameters():
            p.copy_(torch.full_like(p, 3.0))
        trained.layer[1].running_mean.fill_(4.0)
    state = torch.random.get_rng_state()
    new = fresh(trained, seed=1)
    assert torch.equal(state, torch.random.get_rng_state())
    assert all((p == 3.0).all() for p in trained.parameters())
    assert not any((p == 3.0).any() for p in new.parameters())
    assert (new.layer[1].running_mean == 0).all()
    assert (new.scale.weight == 1).all()
    assert (new.scale.bias == 0).all()
    assert new.token.abs().max() < 0.2
    same, other = fresh(trained, seed=1), fresh(trained, seed=2)
    assert all(torch.equal(a, b) for a, b in zip(new.parameters(), same.parameters()))
    assert not torch.equal(new.token, other.token)


def test_random_ranking_is_seeded_and_even():
    ids = random_ranking(500, 10, k=4)
    assert ids.shape == (500, 4)
    assert all(len(set(row)) == 4 for row in ids.tolist())
    np.testing.assert_array_equal(ids, random_ranking(500, 10, k=4))
    assert np.bincount(ids[:, 0], minlength=10).min() > 25
    assert random_ranking(2, 3, k=9).shape == (2, 3)


def test_majority_and_bm25():
    assert majority(np.array([2, 1, 1, 2, 0]), 3).tolist() == [1, 1, 1]
    assert bm25(["a cat", "a dog"], ["dog"], k=1)[1].tolist() == [[1]]
