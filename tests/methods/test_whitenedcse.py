"""WhitenedCSE: the loss by hand, each view's own permutation, the released blocks, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from counterpoint.errors import ConfigError, DataError
from counterpoint.methods.text.whitenedcse import Config, WhitenedCSE
from counterpoint.objectives.geometry import uniformity
from counterpoint.objectives.whiten import shuffled_whiten
from counterpoint.processes import alone
from tests.processes import spread
from tests.toys import Vectors

RNG = np.random.default_rng(0)


def made(dim: int = 8, dropout: float = 0.0, **settings: object) -> WhitenedCSE:
    torch.manual_seed(0)
    return WhitenedCSE(Vectors(dim, dropout=dropout), Config(**{"groups": 4, **settings})).train()  # type: ignore[arg-type]


def rows(n: int = 24, dim: int = 8, seed: int = 0) -> list[dict[str, object]]:
    z = np.random.default_rng(seed).normal(size=(n, dim)) @ np.random.default_rng(9).normal(size=(dim, dim)) + 2
    return [{"text": row, "row": i} for i, row in enumerate(z.tolist())]


def raw(rows: list[dict[str, object]]) -> torch.Tensor:
    return torch.tensor([r["text"] for r in rows])


def drawn(count: int, dim: int = 8) -> list[torch.Tensor]:
    """The permutations that the next `losses` will draw."""
    state = torch.get_rng_state()
    found = [torch.randperm(dim) for _ in range(count)]
    torch.set_rng_state(state)
    return found


def test_the_loss_is_two_cross_entropies_of_heads_on_whitened_views() -> None:
    method, held = made(temperature=0.1), rows()
    orders = drawn(3)
    loss = method.losses(method.views(held, RNG))["contrast"]
    z = [F.normalize(method.head(shuffled_whiten(raw(held), o, groups=4)), dim=-1) for o in orders]
    target = torch.arange(len(held))
    expected = sum(F.cross_entropy(z[0] @ p.T / 0.1, target) for p in z[1:])
    assert torch.allclose(loss, expected, atol=1e-5)  # type: ignore[arg-type]


def test_without_dropout_positives_differ_by_their_shuffle_alone() -> None:
    held = rows()
    method = made(head=False)
    method.losses(method.views(held, RNG))
    assert (F.cosine_similarity(method.observed["anchor"], method.observed["positive"]) < 0.999).all()
    for same in ({"shuffle": "none"}, {"groups": 8}, {"groups": 1}, {"whiten": False}):
        method = made(head=False, **same)
        method.losses(method.views(held, RNG))
        assert torch.allclose(method.observed["anchor"], method.observed["positive"], atol=1e-4)


def test_off_it_is_simcse_with_more_positives() -> None:
    method, held = made(whiten=False, head=False, positives=3, temperature=0.5), rows()
    z = F.normalize(raw(held), dim=-1)
    expected = 3 * F.cross_entropy(z @ z.T / 0.5, torch.arange(len(held)))
    assert torch.allclose(method.losses(method.views(held, RNG))["contrast"], expected, atol=1e-5)


def test_blocks_hold_whole_sentences_with_all_their_views() -> None:
    """As released: view v of sentence i is row 3 i + v, and a third of these rows has one permutation."""
    method, held = made(shuffle="blocks"), rows(12)
    views = [raw(held) + v for v in range(3)]
    orders = drawn(3)
    found = method.whitened(views)
    lying = torch.stack(views, 1).reshape(36, 8)
    for block, order in enumerate(orders):
        white = shuffled_whiten(lying[12 * block : 12 * block + 12], order, groups=4)
        for row in range(12):
            sentence, view = divmod(12 * block + row, 3)
            assert torch.allclose(found[view][sentence], white[row])


def test_no_gradient_flows_through_the_whitening_matrix_unless_asked() -> None:
    gradients = {}
    for through in (False, True):
        method = made(through_statistics=through, head=False)
        held = raw(rows()).requires_grad_()
        weight = torch.linspace(-1, 1, held.numel()).reshape(held.shape)
        (method.whitened([held])[0] * weight).sum().backward()
        gradients[through] = held.grad
    assert gradients[False] is not None
    assert gradients[True] is not None
    assert gradients[True].sum(0).abs().max() < 1e-4  # the mean takes every shift back
    assert gradients[False].sum(0).abs().max() > 1e-2


def test_whitened_views_spread_better_than_what_they_are_made_of() -> None:
    held = raw(rows(64))
    assert uniformity(made().whitened([held])[0]) < uniformity(held) - 0.3


def test_cut_into_passes_the_statistics_are_those_of_the_whole_batch() -> None:
    found = []
    for micro_batch in (None, 5):
        method, held = made(), rows()
        method.micro_batch = micro_batch
        torch.manual_seed(1)
        loss = method.losses(method.views(held, RNG))["contrast"]
        loss.backward()
        found.append((loss, method.encoder.map.weight.grad))  # type: ignore[union-attr]
    assert torch.allclose(found[0][0], found[1][0])
    assert torch.allclose(found[0][1], found[1][1], atol=1e-5)  # type: ignore[arg-type]


def test_the_same_text_twice_is_no_negative_of_itself() -> None:
    held = rows(6)
    held[4]["text"] = held[1]["text"]
    method = made(whiten=False, head=False, positives=1, temperature=0.5)
    z = F.normalize(raw(held), dim=-1)
    scores = z @ z.T / 0.5
    scores[1, 4] = scores[4, 1] = -torch.inf
    expected = F.cross_entropy(scores, torch.arange(6))
    assert torch.allclose(method.losses(method.views(held, RNG))["contrast"], expected, atol=1e-5)


def test_groups_are_chosen_refused_and_warned_of() -> None:
    with pytest.raises(ConfigError, match="8 channels cannot be cut into 3 equal groups"):
        made(groups=3)
    with pytest.raises(ConfigError, match="shuffle='rows'"):
        made(shuffle="rows")
    method = made()
    with pytest.raises(DataError, match="at least 2 rows"):
        method.losses(method.views(rows(1), RNG))
    method = made(groups=2)
    with pytest.warns(UserWarning, match="6 rows say little of the covariance of 4 channels"):
        method.losses(method.views(rows(6), RNG))
    method = made(groups=0, head=False, shuffle="none")
    method.losses(method.views(rows(6), RNG))  # 6 rows: groups of at most 3 of the 8 channels
    white = F.normalize(shuffled_whiten(raw(rows(6)), torch.arange(8), groups=4), dim=-1)
    assert torch.allclose(method.observed["anchor"], white, atol=1e-5)
    method = made(groups=2, eps=0.0)
    with pytest.raises(DataError, match="singular"):
        method.losses(method.views(rows(4), RNG))


def share(rank: int, world: int) -> None:
    method, held = made(), rows(9)
    found = []
    for mine in (held[rank::world], [*held[0::world], *held[1::world]]):
        torch.manual_seed(rank if len(mine) < 9 else 0)  # each process draws on its own; the first one's counts
        if len(mine) < 9:
            found.append(method.losses(method.views(mine, RNG))["contrast"])
        else:
            with alone():
                found.append(method.losses(method.views(mine, RNG))["contrast"])
    assert torch.allclose(found[0], found[1], atol=1e-5)


@pytest.mark.slow
def test_the_loss_of_many_processes_is_that_of_the_whole_batch() -> None:
    spread(share, 2)
