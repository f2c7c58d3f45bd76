"""Bulk encoding: order, company, precision, threads; and what an encoder writes by itself."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch

from counterpoint.encoders.bulk import buckets
from counterpoint.errors import ConfigError
from tests.encoders.samples import TEXTS, static, transformer
from tests.toys import Vectors


@pytest.mark.parametrize("build", [transformer, static])
def test_an_item_has_the_same_embedding_in_any_company(build):
    encoder = build()
    together = encoder.encode(TEXTS)
    alone = np.concatenate([encoder.encode([text]) for text in TEXTS])
    small = encoder.encode(TEXTS, budget=8)
    one_thread = encoder.encode(TEXTS, budget=8, workers=1)
    assert abs(together - alone).max() <= 1e-6
    assert abs(together - small).max() <= 1e-6
    assert abs(together - one_thread).max() <= 1e-6
    assert abs(together[0] - together[2]).max() > 0.01  # texts do differ


def test_order_is_that_of_the_items():
    encoder = transformer()
    order = np.random.default_rng(0).permutation(len(TEXTS))
    shuffled = encoder.encode([TEXTS[i] for i in order], budget=16)
    assert abs(shuffled - encoder.encode(TEXTS)[order]).max() <= 1e-6


def test_encode_leaves_mode_and_threads_as_they_were():
    encoder = transformer(dropout=0.5).train()
    threads = torch.get_num_threads()
    a, b = encoder.encode(TEXTS, budget=16, workers=3), encoder.encode(TEXTS, budget=16, workers=3)
    assert encoder.training
    assert torch.get_num_threads() == threads
    assert abs(a - b).max() <= 1e-6  # no dropout
    assert a.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(a, axis=1), 1, rtol=1e-5)


def test_an_error_in_a_worker_is_raised():
    class Broken(Vectors):
        def forward(self, data):
            raise ConfigError("broken on purpose")

    with pytest.raises(ConfigError, match="on purpose"):
        Broken(2).encode([[1.0, 2.0]] * 4, budget=1, workers=2)


def test_normalize_and_precision():
    encoder = transformer()
    raw = encoder.encode(TEXTS, normalize=False)
    unit = encoder.encode(TEXTS)
    np.testing.assert_allclose(raw / np.linalg.norm(raw, axis=1, keepdims=True), unit, atol=1e-6)
    half = encoder.encode(TEXTS, precision="bfloat16")
    assert 1e-5 < abs(half - unit).max() < 0.1
    assert next(encoder.parameters()).dtype == torch.float32
    with pytest.raises(ConfigError, match="float32 or bfloat16"):
        encoder.encode(TEXTS, precision="int8")


def test_nothing_to_encode():
    for encoder in (transformer(), static()):
        assert encoder.encode([]).shape == (0, encoder.dim)


def test_buckets_cover_once_within_the_budget():
    lengths = np.array([3, 9, 1, 9, 4, 30, 2])
    found = buckets(lengths, 12)
    assert sorted(np.concatenate(found)) == list(range(7))
    for index in found:
        assert len(index) == 1 or lengths[index].max() * len(index) <= 12
    assert [lengths[i].max() for i in found] == sorted((lengths[i].max() for i in found), reverse=True)


def test_a_kind_is_found_without_importing_every_encoder() -> None:
    """To import all of them takes seconds: those of others are looked for only where the library declares none."""
    script = (
        "import sys; from counterpoint.encoders.base import discover, find\n"
        "print(find('vectors').__name__, 'transformers' in sys.modules, 'counterpoint.encoders.text' in sys.modules)\n"
        "print(all(find(kind) is cls for kind, cls in discover().items()))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["Vectors", "False", "False", "True"]
