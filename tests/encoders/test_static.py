"""Static encoders: the sum by hand, sets, weights from document frequencies, dropout of tokens."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from counterpoint.encoders import folder
from counterpoint.encoders.static import StaticText, StaticTextConfig
from counterpoint.errors import ConfigError, DataError
from tests.encoders.samples import TEXTS, static


def by_hand(encoder: StaticText, text: str) -> torch.Tensor:
    ids = encoder.ids([text])[0]
    ids = list(dict.fromkeys(ids)) if encoder.config.aggregate == "set" else ids
    weights = encoder.log_weights.exp() if encoder.log_weights is not None else torch.ones(len(encoder.table))
    return sum(weights[i] * encoder.table[i] for i in ids) / len(ids)


@pytest.mark.parametrize("aggregate", ["mean", "set"])
@pytest.mark.parametrize("weights", ["learned", "uniform"])
def test_is_the_weighted_average(aggregate, weights):
    encoder = static(aggregate=aggregate, weights=weights)
    z = encoder(encoder.collate(TEXTS))
    for row, text in zip(z, TEXTS):
        expected = by_hand(encoder, text) if text else torch.zeros(16)
        torch.testing.assert_close(row, expected)


def test_a_repeated_word_counts_once_in_a_set_only():
    for aggregate, same in (("set", True), ("mean", False)):
        encoder = static(aggregate=aggregate)
        a, b = encoder(encoder.collate(["cat dog", "cat cat cat dog"]))
        assert torch.allclose(a, b) is same


def test_weights_start_as_idf():
    encoder = static()
    (cat,), (voices,) = encoder.ids(["cat", "voices"])
    n = len(TEXTS) * 3
    for token, word in ((cat, "cat"), (voices, "voices")):
        df = 3 * sum(token in ids for ids in encoder.ids(TEXTS))
        assert df > 0, word
        assert encoder.log_weights[token].exp().item() == pytest.approx(math.log((n + 1) / (df + 0.5)), rel=1e-5)


def test_gradients_reach_the_table_and_the_weights_of_the_tokens_read_only():
    encoder = static().train()
    data = encoder.collate(["cat dog"])
    (encoder(data) * torch.randn(16)).sum().backward()
    used = encoder.ids(["cat dog"])[0]
    touched = encoder.table.grad.abs().sum(1).nonzero().flatten().tolist()
    assert touched == sorted(used) == encoder.log_weights.grad.nonzero().flatten().tolist()


def test_token_dropout_in_training_only_and_never_the_last_token():
    encoder = static(token_dropout=0.9)
    data = encoder.collate(["cat dog mat sat"] * 200)
    assert encoder(data).std(0).max() < 1e-7
    encoder.train()
    torch.manual_seed(0)
    z = encoder(data)
    assert z.std(0).max() > 0.01
    assert z.norm(dim=1).min() > 0
    assert encoder(encoder.collate([""])).abs().max() == 0


def test_tokens_average_to_the_embedding():
    encoder = static(aggregate="set")
    data = encoder.collate(TEXTS)
    tokens, mask = encoder.tokens(data)
    mean = (tokens * mask.unsqueeze(-1)).sum(1) / mask.sum(1, keepdim=True).clamp(min=1)
    torch.testing.assert_close(mean, encoder(data))


def test_long_texts_are_cut_counted_and_told_once():
    encoder = static(max_length=3, aggregate="set")
    with pytest.warns(UserWarning, match="1 of 2 texts are longer than max_length=3"):
        data = encoder.collate(["cat cat cat dog", "cat"])
    torch.testing.assert_close(*encoder(data))  # "dog" was the fourth token
    encoder.collate(["cat " * 5] * 4)
    assert encoder.truncated == 5


def test_rows_can_be_taken():
    encoder = static()
    data = encoder.collate(TEXTS)
    part = {k: v[2:5] for k, v in data.items()}
    torch.testing.assert_close(encoder(part), encoder(data)[2:5])


@pytest.mark.parametrize(
    "wrong", [{"aggregate": "sum"}, {"weights": "idf"}, {"token_dropout": 1.0}, {"dim": 0}, {"init": "random"}]
)
def test_wrong_settings_are_refused(wrong):
    with pytest.raises(ConfigError):
        StaticTextConfig(**wrong)


def test_what_is_no_text_is_named():
    with pytest.raises(DataError, match="item 1 is of the type NoneType"):
        static().encode(["a", None])


def test_saturating_counts_a_token_as_bm25_does():
    """c (1 + k) / (c + k): with k = 0 it is ``set``; with k large, c itself, as in ``mean``."""
    text = "cat cat cat dog mat mat"
    one = static(aggregate="saturating", saturation=1.0)
    weight = dict(zip(*(one.tokenizer.convert_ids_to_tokens(range(len(one.table))), one.log_weights.exp().tolist())))
    row = {t: i for i, t in enumerate(one.tokenizer.convert_ids_to_tokens(range(len(one.table))))}
    by_hand = sum(
        c * 2 / (c + 1) * weight[token] * one.table[row[token]] for token, c in (("cat", 3), ("dog", 1), ("mat", 2))
    )
    assert torch.allclose(one(one.collate([text]))[0], by_hand / 3, atol=1e-6)
    for saturation, other in ((0.0, "set"), (1e7, "mean")):
        same = static(aggregate="saturating", saturation=saturation)
        limit = static(aggregate=other)
        limit.load_state_dict(same.state_dict())
        assert np.allclose(same.encode([text, "dog"]), limit.encode([text, "dog"]), atol=1e-5)


def test_a_saturating_encoder_survives_its_folder_and_is_not_offered_to_others(tmp_path):
    one = static(aggregate="saturating")
    folder.save(one, tmp_path / "model")
    assert np.allclose(folder.load(tmp_path / "model").encode(["cat cat dog"]), one.encode(["cat cat dog"]), atol=1e-6)
    assert not (tmp_path / "model" / "modules.json").exists()


def test_a_role_may_add_a_token_of_its_own():
    one = static(aggregate="set")
    one.prompts = {"document": "[CLS] "}
    with_role, without = (one.collate(["cat"], role=r)["input_ids"][0].tolist() for r in ("document", None))
    assert with_role == [one.tokenizer.cls_token_id, *without]
