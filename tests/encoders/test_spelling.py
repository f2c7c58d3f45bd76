"""Embeddings alike by spelling: n-grams by hand, cosines in the limit of width, and what a share leaves unchanged."""

from __future__ import annotations

import math

import pytest
import torch

from counterpoint.encoders.spelling import ngrams, spelled
from counterpoint.encoders.static import StaticText, StaticTextConfig
from counterpoint.errors import ConfigError
from tests.encoders.samples import TEXTS


def test_ngrams_by_hand() -> None:
    """``ab`` reads <ab>: <ab ab> <ab>; ``##ab`` reads ab>: ab>; they share one n-gram that two of three hold."""
    found = ngrams(["ab", "##ab", "zz"], sizes=(3, 4)).toarray()
    heavy, light = math.log(3 / 1), math.log(3 / 2)
    expected = light**2 / (math.hypot(heavy, heavy, light) * light)
    assert float(found[0] @ found[1]) == pytest.approx(expected, rel=1e-5)
    assert float(found[0] @ found[2]) == 0


def test_a_byte_level_vocabulary_marks_beginnings_instead() -> None:
    found = ngrams(["Ġab", "ab", "Ġzz"], sizes=(3, 4)).toarray()
    assert found[0] @ found[1] == pytest.approx(ngrams(["ab", "##ab", "zz"], sizes=(3, 4)).toarray()[0] @ found[1])


def test_cosines_are_those_of_the_ngrams() -> None:
    torch.manual_seed(0)
    tokens = ["play", "played", "playing", "##playing", "stone", "a", "##a"]
    z, held = spelled(tokens, 20_000), torch.from_numpy(ngrams(tokens).toarray())
    torch.testing.assert_close(z @ z.T, held @ held.T, atol=0.03, rtol=0)
    assert z[0] @ z[1] > 0.1 > abs(z[0] @ z[4])
    assert not z[6].any()  # "a>" holds no three characters


def test_the_share_of_spelling() -> None:
    def table(share: float) -> torch.Tensor:
        torch.manual_seed(0)
        config = StaticTextConfig(dim=16, spelling=share, std=2.0)
        return StaticText.from_texts(TEXTS * 3, config).table.detach()

    own, half, alike = table(0.0), table(0.5), table(1.0)
    torch.testing.assert_close(half, (own + alike) * math.sqrt(0.5))
    assert float(alike.square().sum(1).median()) == pytest.approx(4.0, rel=0.6)
    with pytest.raises(ConfigError, match=r"spelling=1\.5"):
        StaticTextConfig(spelling=1.5)
