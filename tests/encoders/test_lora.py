"""Adapters: nothing changes at first, only they learn, and the folder holds the plain model that they amount to."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from counterpoint.encoders.folder import load, save
from counterpoint.encoders.lora import adapt, merged
from counterpoint.errors import ConfigError
from tests.encoders.samples import TEXTS, static, transformer

pytest.importorskip("peft")


def adapted(rank: int = 2):
    encoder = transformer()
    before = encoder.encode(TEXTS)
    return encoder, before, adapt(encoder, rank)


def moved(encoder) -> None:
    """Adapters that say something: their second matrix is zero at first."""
    torch.manual_seed(1)
    for name, weight in encoder.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.1)


def test_nothing_changes_at_first():
    encoder, before, _ = adapted()
    np.testing.assert_allclose(encoder.encode(TEXTS), before, atol=1e-6)


def test_only_the_adapters_learn_and_they_are_counted():
    encoder, _, count = adapted(rank=3)
    learning = {n: p for n, p in encoder.named_parameters() if p.requires_grad}
    assert learning
    assert all("lora_" in n for n in learning)
    linear = [m for m in transformer().transformer.modules() if isinstance(m, torch.nn.Linear)]
    assert (
        count == sum(3 * (m.in_features + m.out_features) for m in linear) == sum(p.numel() for p in learning.values())
    )
    encoder(encoder.collate(TEXTS)).sum().backward()
    assert all(p.grad is None for n, p in encoder.named_parameters() if n not in learning)


def test_merged_is_the_sum_of_both():
    encoder, before, _ = adapted()
    moved(encoder)
    plain = merged(encoder)
    assert [n for n, _ in plain.named_parameters()] == [n for n, _ in transformer().named_parameters()]
    after = encoder.encode(TEXTS)
    np.testing.assert_allclose(plain.encode(TEXTS), after, atol=1e-5)
    assert np.abs(after - before).max() > 1e-2
    assert any("lora_" in n for n, _ in encoder.named_parameters()), "training goes on with the adapters"


def test_the_folder_is_that_of_a_plain_model(tmp_path):
    encoder, _, _ = adapted()
    moved(encoder)
    save(encoder, tmp_path / "model")
    np.testing.assert_allclose(load(tmp_path / "model").encode(TEXTS), encoder.encode(TEXTS), atol=1e-5)


def test_without_adapters_nothing_is_copied():
    encoder = transformer()
    assert merged(encoder) is encoder


def test_refusals():
    with pytest.raises(ConfigError, match="no transformer to put adapters into"):
        adapt(static(), 4)
    with pytest.raises(ConfigError, match="at least 1"):
        adapt(transformer(), 0)
