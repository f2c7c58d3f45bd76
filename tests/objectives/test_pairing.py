"""Each rule says of tiles and of single pairs what a hand-made matrix says, and joins with others."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from counterpoint.errors import ConfigError, DataError
from counterpoint.kernels.tile import Asked, Cell, Pairs, Scratch, Tile
from counterpoint.objectives.pairing import (
    Debiased,
    Decoupled,
    Diagonal,
    FalseNegatives,
    Hardness,
    Importance,
    Labels,
    Listed,
    Margin,
    MultiLabel,
    NotNear,
    NotSame,
    NotSelf,
    OnlyOwn,
    OnlySame,
    Pairing,
    Rule,
    Soft,
    TeacherSimilarity,
    views,
)
from counterpoint.objectives.rules import Mask, Targets

EVERYTHING = Asked(positives=True, negatives=True, counts=True)


def whole(rule: Rule, n: int, m: int, of: str, *, extra: int = 0, side: int = 2) -> Tensor:
    """One field of a pairing's cells, put together from tiles; what a tile says nothing of is 0."""
    out = torch.zeros(n, m + extra)
    pairing = Pairing([rule])
    for r in range(0, n, side):
        for first, last in ((0, m), (m, m + extra)):
            for c in range(first, last, side):
                rows, cols = slice(r, min(r + side, n)), slice(c, min(c + side, last))
                tile = Tile(rows, cols, m, Scratch(torch.device("cpu")), torch.ones(rows.stop - r, cols.stop - c))
                said = getattr(pairing.cell(tile, EVERYTHING, torch.float32), of)
                if said is not None:
                    out[rows, cols] = said.float()
    return out


def singly(rule: Rule, n: int, m: int, of: str) -> Tensor:
    rows, cols = torch.arange(n).repeat_interleave(m), torch.arange(m).repeat(n)
    cell: Cell = Pairing([rule]).cell(Pairs(rows, cols, scores=torch.ones(n * m)), EVERYTHING, torch.float32)
    said = getattr(cell, of)
    return torch.zeros(n, m) if said is None else said.float().expand(n * m).view(n, m)


def says(rule: Rule, expected: list[list[float]], of: str, *, extra: int = 0) -> None:
    wanted = torch.tensor(expected, dtype=torch.float32)
    n, m = wanted.shape
    assert torch.allclose(whole(rule, n, m - extra, of, extra=extra), wanted), whole(
        rule, n, m - extra, of, extra=extra
    )
    if not extra:
        assert torch.allclose(singly(rule, n, m, of), wanted)


Y = torch.tensor([0, 1, 0])


def test_targets_by_hand() -> None:
    says(Diagonal(), [[1, 0, 0], [0, 1, 0], [0, 0, 1]], "targets")
    says(Diagonal(offset=1), [[0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], "targets")
    says(Labels(Y), [[1, 0, 1], [0, 1, 0], [1, 0, 1]], "targets")
    says(Labels(Y, self_pairs=False), [[0, 0, 1], [0, 0, 0], [1, 0, 0]], "targets")
    says(Labels(torch.tensor([-1, 1]), torch.tensor([-1, 1, -2])), [[0, 0, 0], [0, 1, 0]], "targets")
    says(Listed.ragged([[2], [], [0, 1]]), [[0, 0, 1], [0, 0, 0], [1, 1, 0]], "targets")
    twice = Listed(torch.tensor([1, 0, 1]), torch.tensor([2, 1, 2]), torch.tensor([0.5, 3.0, 0.25]))
    says(twice, [[0, 3, 0], [0, 0, 0.75]], "targets")
    says(views(2), [[0, 0, 1, 0], [0, 0, 0, 1], [1, 0, 0, 0], [0, 1, 0, 0]], "targets")
    matrix = [[0.2, 0.0, 1.0], [0.0, 0.5, 0.1]]
    says(Soft(torch.tensor(matrix)), matrix, "targets")


def test_shared_labels_by_hand() -> None:
    tags = torch.tensor([[1, 1, 0], [0, 1, 1], [0, 0, 0]])
    says(MultiLabel(tags, kind="any"), [[1, 1, 0], [1, 1, 0], [0, 0, 0]], "targets")
    says(MultiLabel(tags, kind="count"), [[2, 1, 0], [1, 2, 0], [0, 0, 0]], "targets")
    says(MultiLabel(tags, kind="jaccard"), [[1, 1 / 3, 0], [1 / 3, 1, 0], [0, 0, 0]], "targets")


def test_teacher_by_hand() -> None:
    e = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    says(TeacherSimilarity(e, slope=0.5, intercept=0.5), [[1, 0.5, 0], [0.5, 1, 0.5], [0, 0.5, 1]], "targets")
    says(TeacherSimilarity(e, clip=True), [[1, 0, 0], [0, 1, 0], [0, 0, 1]], "targets")
    a, b = torch.tensor(2.0).exp(), torch.tensor(-2.0).exp()
    says(TeacherSimilarity(e, temperature=0.5), [[a, 1, b], [1, a, 1], [b, 1, a]], "targets")


def test_masks_by_hand() -> None:
    says(Diagonal() & NotSelf(), [[1, 0], [0, 1]], "dropped")
    says(Diagonal() & NotSelf(torch.tensor([5, 6]), torch.tensor([6, 7])), [[0, 0], [1, 0]], "dropped")
    says(Diagonal() & OnlyOwn(), [[0, 1, 1, 0], [1, 0, 1, 0], [1, 1, 0, 0]], "dropped", extra=1)
    says(Diagonal() & NotSame(Y), [[0, 0, 1], [0, 0, 0], [1, 0, 0]], "dropped")
    says(Diagonal() & NotSame(Y, spare=False), [[1, 0, 1], [0, 1, 0], [1, 0, 1]], "dropped")
    says(Diagonal() & OnlySame(Y), [[0, 1, 0], [1, 0, 1], [0, 1, 0]], "dropped")
    t = torch.tensor([0.0, 0.5, 2.0])
    says(Diagonal() & NotNear(t, 1.0), [[0, 1, 0], [1, 0, 0], [0, 0, 0]], "dropped")
    says(Diagonal() & NotNear(t, 9.0, groups=Y), [[0, 0, 1], [0, 0, 0], [1, 0, 0]], "dropped")
    says(Diagonal() & NotSame(Y) & NotSelf(), [[1, 0, 1], [0, 1, 0], [1, 0, 1]], "dropped")


def test_guide_by_hand() -> None:
    g = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]])  # similarities 1, .8, 0 / .8, 1, .6 / 0, .6, 1
    says(Diagonal() & FalseNegatives(g, margin=0.3), [[0, 1, 0], [1, 0, 0], [0, 0, 0]], "dropped")
    k = 0.5 * g[:2]
    says(Diagonal() & FalseNegatives(g[:2], torch.cat([k, g[2:]])), [[0, 0, 0], [0, 0, 1]], "dropped", extra=1)
    relative = FalseNegatives(g[:2], g[:2], kind="relative", margin=0.1, positives=torch.tensor([1, 1]))
    says(Labels(torch.tensor([1, 1]), torch.tensor([0, 1])) & relative, [[1, 0], [0, 0]], "dropped")


def test_a_mask_takes_targets_and_positives_with_it_unless_it_spares_them() -> None:
    pairing = Labels(Y) & NotSelf()
    says(pairing, [[0, 0, 1], [0, 0, 0], [1, 0, 0]], "positives")
    says(pairing, [[0, 0, 1], [0, 0, 0], [1, 0, 0]], "targets")
    says(Labels(Y) & NotSame(Y), [[1, 0, 1], [0, 1, 0], [1, 0, 1]], "positives")


def test_weights_are_of_negatives_only() -> None:
    w = torch.tensor([2.0, 1.0, 0.5])
    log2 = torch.tensor(2.0).log().item()
    says(Diagonal() & Importance(w), [[0, 0, -log2], [log2, 0, -log2], [log2, 0, 0]], "log_weights")
    says(Diagonal() & Hardness(0.5), [[0, 0.5], [0.5, 0]], "log_weights")
    both = Diagonal() & Hardness(0.5) & Importance(w)
    says(both, [[0, 0.5, 0.5 - log2], [log2 + 0.5, 0, 0.5 - log2], [log2 + 0.5, 0.5, 0]], "log_weights")
    says(Diagonal() & Margin(torch.tensor([3.0, 4.0])), [[3, 0], [0, 4]], "offset")


@pytest.mark.parametrize(
    "targets",
    [
        Diagonal(offset=2),
        Labels(torch.tensor([0, 1, -1, 2]), torch.tensor([2, 2, -1, 0, 1, 5])),
        Listed(torch.tensor([0, 3, 3]), torch.tensor([5, 1, 1]), torch.tensor([0.5, 2.0, 1.0])),
        MultiLabel(torch.eye(4)[:, :3], torch.ones(6, 3), kind="count"),
        TeacherSimilarity(torch.randn(4, 2), torch.randn(6, 2), slope=0.3, intercept=2.0),
    ],
)
def test_pull_and_push_are_products_with_the_whole_matrix(targets: Targets) -> None:
    t = whole(targets, 4, 6, "targets").double()
    cast = targets.like(t)
    assert isinstance(cast, Targets)
    x, z = torch.randn(6, 3, dtype=torch.float64), torch.randn(4, 3, dtype=torch.float64)
    pulled, pushed = cast.pull(x, 4), cast.push(z, 6)
    assert pulled is not None
    assert pushed is not None
    assert torch.allclose(pulled, t @ x, atol=1e-6)
    assert torch.allclose(pushed, t.T @ z, atol=1e-6)


def test_a_pairing_has_one_target_rule_and_rules_in_any_order() -> None:
    assert repr(NotSelf() & Labels(Y)) == "NotSelf & Labels"
    assert len((NotSelf() & (Labels(Y) & Hardness(1.0))).of(Mask)) == 1
    with pytest.raises(ConfigError, match="one target rule"):
        Diagonal() & Labels(Y)
    with pytest.raises(ConfigError, match="at most one"):
        Diagonal() & Margin(0.1) & Margin(0.2)
    with pytest.raises(ConfigError, match="made of rules"):
        Diagonal() & 3  # type: ignore[operator]
    with pytest.raises(ConfigError, match="nothing of positives"):
        (NotSelf() & Decoupled()).check(2, 2, 0, False)


@pytest.mark.parametrize(
    ("rule", "sentence"),
    [
        (Diagonal(offset=1), "every anchor i needs its candidate"),
        (Labels(torch.zeros(3, dtype=torch.long)), "labels has 3 entries, expected 4"),
        (
            Labels(torch.zeros(4, dtype=torch.long), torch.zeros(6, dtype=torch.long)),
            "candidates has 6 entries, expected 4 or 9",
        ),
        (Labels(torch.zeros(4)), "whole numbers"),
        (MultiLabel(torch.zeros(4, 3), torch.zeros(4, 2)), "candidates \\(classes\\) has 2"),
        (Listed(torch.tensor([0, 1]), torch.tensor([0, 9])), "pair 1 names candidate 9, but there are 9"),
        (Listed(torch.tensor([4]), torch.tensor([0])), "pair 0 names row 4, but there are 4"),
        (Listed(torch.tensor([0]), torch.tensor([0]), torch.tensor([-1.0])), "negative"),
        (Soft(torch.ones(4, 3)), "matrix \\(columns\\) has 3"),
        (Soft(torch.tensor([[0.0] * 4] * 3 + [[torch.nan] * 4])), "row 3 holds"),
        (TeacherSimilarity(torch.ones(4, 2), torch.ones(4, 3)), "same teacher"),
        (TeacherSimilarity(torch.ones(4, 2), temperature=0.0), "a temperature is positive"),
        (TeacherSimilarity(torch.ones(4, 2), temperature=1.0, normalise=False), "makes a softmax"),
        (Diagonal() & NotSame(torch.zeros(5)), "groups has 5 entries"),
        (Diagonal() & NotSelf(torch.zeros(4), torch.zeros(3)), "candidates has 3 entries"),
        (Diagonal() & NotNear(torch.zeros(4), 1.0, groups=torch.zeros(2)), "groups has 2 entries"),
        (Diagonal() & FalseNegatives(torch.zeros(4, 2), torch.zeros(4, 3)), "same guide"),
        (Diagonal() & Importance(torch.tensor([1.0, -1.0, 1.0, 1.0])), "weight 1 is -1.0"),
        (Diagonal() & Margin(torch.zeros(3)), "margin has 3 entries"),
    ],
)
def test_metadata_that_does_not_fit_is_named(rule: Rule, sentence: str) -> None:
    with pytest.raises((DataError, ConfigError), match=sentence):
        Pairing([rule]).check(4, 4, 5, False)


def test_a_prior_outside_its_range_is_refused() -> None:
    with pytest.raises(ConfigError, match="share of one class"):
        Debiased(1.0)


def test_a_small_teacher_temperature_cannot_serve_both_directions() -> None:
    with pytest.raises(ConfigError, match="once for each direction"):
        TeacherSimilarity(torch.eye(4), temperature=1e-3).check(4, 4, 0, both=True)
