"""Bad input gets a sentence that names it."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from counterpoint.errors import ConfigError, DataError
from counterpoint.objectives.contrast import contrast
from counterpoint.objectives.pairing import Debiased, Diagonal, Hardness, LogWeights, TeacherSimilarity

Z = torch.eye(4)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("which", ["anchors", "candidates", "extra", "scale"])
def test_the_first_row_that_is_not_finite_is_named(bad: float, which: str) -> None:
    given: dict[str, Any] = {name: Z.clone() for name in ("anchors", "candidates", "extra")}
    given["scale"] = torch.ones(4)
    given[which][2] = bad
    with pytest.raises(DataError, match=f"{which}: row 2 holds NaN or infinity \\(1 such rows\\)"):
        contrast(**given)


def test_a_scale_or_bias_that_is_not_finite_is_named() -> None:
    with pytest.raises(DataError, match="scale: is not finite"):
        contrast(Z, Z, scale=torch.nan)
    with pytest.raises(DataError, match="bias: is not finite"):
        contrast(Z, Z, bias=torch.nan, form="sigmoid")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"anchors": torch.ones(4)}, "anchors has shape \\(4,\\)"),
        ({"anchors": torch.ones(4, 4, dtype=torch.long)}, "floating point"),
        ({"candidates": torch.ones(4, 3)}, "candidates has 3 dimensions, anchors have 4"),
        ({"extra": torch.ones(2, 3)}, "extra has 3 dimensions"),
        ({"anchors": torch.ones(0, 4)}, "nothing to contrast"),
        ({"candidates": torch.ones(0, 4)}, "nothing to contrast"),
        ({"anchors": torch.ones(4, 0), "candidates": torch.ones(4, 0)}, "nothing to contrast"),
        ({"candidates": torch.ones(3, 4)}, "every anchor i needs its candidate"),
        ({"scale": torch.ones(3)}, "scale has shape \\(3,\\), expected \\(\\) or \\(4,\\)"),
        ({"extra": Z, "owner": torch.zeros(3, dtype=torch.long)}, "owner has shape"),
        ({"extra": Z, "owner": torch.tensor([0, 1, 4, 0])}, "owner\\[2\\] is 4, but there are 4 anchors"),
        ({"pairing": Diagonal() & LogWeights(torch.full((4, 4), torch.inf))}, "row 0 holds NaN or \\+inf"),
    ],
)
def test_shapes(change: dict[str, Any], sentence: str) -> None:
    with pytest.raises((DataError, ConfigError), match=sentence):
        contrast(**{"anchors": Z, "candidates": Z, **change})


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"form": "hinge"}, "form='hinge': type one of 'softmax', 'marginal', 'sigmoid'"),
        ({"reduction": "average"}, "type one of 'mean', 'sum', 'none'"),
        ({"backend": "cuda"}, "type one of 'auto', 'reference', 'tiled'"),
        ({"precision": "half"}, "type one of 'full', 'bfloat16'"),
        ({"tile": 0}, "positive number of rows"),
        ({"bias": 1.0}, "bias cancels in the softmax form"),
        ({"form": "sigmoid", "both": True}, "has no direction"),
        ({"form": "sigmoid", "pairing": Diagonal() & Debiased(0.1)}, "has none"),
        ({"form": "sigmoid", "pairing": Diagonal() & Hardness(0.1, unit_mean=True)}, "has none"),
        ({"form": "sigmoid", "pairing": TeacherSimilarity(Z, temperature=0.1)}, "single pairs"),
        ({"both": True, "pairing": Diagonal() & Debiased(0.1), "scale": torch.ones(4)}, "give one scale"),
        ({"owner": torch.zeros(4, dtype=torch.long)}, "no extra candidates were given"),
    ],
)
def test_settings_that_contradict_each_other(change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        contrast(Z, Z, **change)
