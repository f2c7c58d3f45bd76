"""The same weights with another pooling."""

from __future__ import annotations

import numpy as np
import pytest

from counterpoint.encoders.pooled import check_pooled, pooled
from counterpoint.errors import ConfigError
from tests.encoders.samples import TEXTS, static, transformer


def test_another_pooling_of_the_same_weights() -> None:
    encoder = transformer(pooling="cls").eval()
    other = pooled(encoder, "mean")
    np.testing.assert_allclose(other.encode(TEXTS[:3]), transformer(pooling="mean").eval().encode(TEXTS[:3]), atol=1e-6)
    assert next(other.parameters()) is next(encoder.parameters())
    assert encoder.config.pooling == "cls"


def test_where_none_is_named_the_encoder_stays() -> None:
    encoder = static()
    assert pooled(encoder, "") is encoder


def test_what_cannot_be_pooled_is_refused() -> None:
    with pytest.raises(ConfigError, match="StaticText is none"):
        pooled(static(), "cls")
    check_pooled("", "prompt", "mean")
    with pytest.raises(ConfigError, match="no pooling 'prompts'"):
        check_pooled("", "prompts")
    with pytest.raises(ConfigError, match="where its embedding is read"):
        check_pooled(template="{} means")
