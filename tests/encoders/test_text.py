"""Transformer text encoders: packing changes nothing, gradients included; prompts, padding, refusals."""

from __future__ import annotations

import copy
import time

import pytest
import torch
from transformers import AutoConfig

from counterpoint.encoders import text as module
from counterpoint.encoders.text import TextTransformer, TextTransformerConfig
from counterpoint.errors import ConfigError, DataError, ModelError
from tests.encoders.samples import TEXTS, transformer

FAMILIES = ["bert", "electra", "roberta", "xlm-roberta", "camembert", "distilbert", "mpnet"]


def family(name: str) -> TextTransformer:
    small = {
        "hidden_size": 32, "dim": 32, "num_hidden_layers": 2, "n_layers": 2, "num_attention_heads": 4, "n_heads": 4,
        "intermediate_size": 64, "hidden_dim": 64, "max_position_embeddings": 64, "embedding_size": 32,
    }  # fmt: skip
    known = AutoConfig.for_model(name).to_dict()
    return transformer(architecture={"model_type": name, **{k: v for k, v in small.items() if k in known}})


def plainly(encoder: TextTransformer, data: dict[str, torch.Tensor]) -> torch.Tensor:
    """Hidden states as transformers computes them, with padding and a mask."""
    hidden = encoder.transformer(input_ids=data["input_ids"], attention_mask=data["attention_mask"])
    return hidden.last_hidden_state * data["attention_mask"].unsqueeze(-1)


@pytest.mark.parametrize("name", FAMILIES)
def test_equals_the_plain_computation(name):
    encoder = family(name)
    assert encoder._packed is (name not in ("distilbert", "mpnet"))
    data = encoder.collate(TEXTS)
    tokens, mask = encoder.tokens(data)
    expected = plainly(encoder, data)
    torch.testing.assert_close(tokens, expected, atol=1e-5, rtol=1e-5)
    mean = expected.sum(1) / mask.sum(1, keepdim=True)
    torch.testing.assert_close(encoder(data), mean, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("packed", [True, False])
def test_gradients_equal_the_plain_ones(packed, monkeypatch):
    monkeypatch.setitem(module.PASS, "cpu", 20)  # several passes
    encoder = transformer()
    other = copy.deepcopy(encoder)
    encoder._packed = packed
    data = encoder.collate(TEXTS)
    weight = torch.randn(len(TEXTS), encoder.dim)
    (encoder(data) * weight).sum().backward()
    (plainly(other, data).sum(1) / data["attention_mask"].sum(1, keepdim=True) * weight).sum().backward()
    for (name, p), q in zip(encoder.named_parameters(), other.parameters()):
        assert p.grad is not None, name
        torch.testing.assert_close(p.grad, q.grad, atol=2e-4, rtol=1e-4, msg=name)


@pytest.mark.parametrize("packed", [True, False])
def test_padding_wherever_it_lies(packed):
    encoder = transformer()
    encoder._packed = packed
    ids = encoder.collate([TEXTS[0]])["input_ids"]
    n = ids.shape[1]
    wide = torch.full((3, n + 6), encoder.pad)
    mask = torch.zeros(3, n + 6, dtype=torch.long)
    for row, start in enumerate((0, 3, 6)):
        wide[row, start : start + n], mask[row, start : start + n] = ids, 1
    data = {"input_ids": wide, "attention_mask": mask}
    z = encoder(data)
    torch.testing.assert_close(z, z[:1].expand(3, -1), atol=1e-6, rtol=0)
    tokens, real = encoder.tokens(data)
    assert real.equal(mask.bool())
    torch.testing.assert_close(tokens[0, :n], tokens[2, 6:], atol=1e-5, rtol=0)
    assert tokens[1, :3].abs().max() == 0


def test_rows_without_a_token_are_finite():
    encoder = transformer()
    data = encoder.collate(TEXTS[:3])
    data["attention_mask"][1] = 0
    z = encoder(data)
    assert z.isfinite().all()
    torch.testing.assert_close(z[[0, 2]], encoder(encoder.collate([TEXTS[0], TEXTS[2]])), atol=1e-6, rtol=0)
    assert encoder.tokens(data)[0][1].abs().max() == 0


def test_hidden_states_of_every_layer():
    encoder = transformer()
    data = encoder.collate(TEXTS)
    states = encoder.hidden_states(data)
    assert [tuple(s.shape) for s in states] == [(*data["input_ids"].shape, 32)] * 3
    torch.testing.assert_close(states[-1], encoder.tokens(data)[0])
    expected = encoder.transformer(**data, output_hidden_states=True).hidden_states[1]
    real = data["attention_mask"].bool()
    torch.testing.assert_close(states[1][real], expected[real], atol=1e-5, rtol=1e-5)


def test_passes_hold_what_they_may():
    lengths = [9, 9, 5, 5, 5, 1, 1]
    dense = list(module._parts(lengths, torch.device("cpu"), True))
    assert [lengths[p] for p in dense] == [lengths]
    padded = list(module._parts([100, 99, 50, 49, 2], torch.device("cpu"), False))
    assert [(p.start, p.stop) for p in padded] == [(0, 2), (2, 4), (4, 5)]
    assert list(module._parts([], torch.device("cpu"), True)) == []


def test_dropout_is_drawn_in_training():
    encoder = transformer(dropout=0.3)
    data = encoder.collate(TEXTS)
    assert encoder(data).equal(encoder(data))
    encoder.train()
    assert not encoder(data).equal(encoder(data))
    torch.manual_seed(1)
    a = encoder(data)
    torch.manual_seed(1)
    assert encoder(data).equal(a)


def test_prompts_belong_to_roles():
    encoder = transformer(prompts={"query": "the dog "})
    assert encoder.ids(["the dog voices"])[0] == encoder.collate(["voices"], "query")["input_ids"][0, 1:-1].tolist()
    plain = encoder.encode(["voices"])
    assert abs(encoder.encode(["voices"], role="document") - plain).max() == 0
    assert abs(encoder.encode(["voices"], role="query") - plain).max() > 0.01


def test_ids_are_whole_and_bare_and_collate_ids_cuts_them():
    encoder = transformer(max_length=6)
    (ids,) = encoder.ids([TEXTS[3]])
    assert len(ids) > 6
    assert encoder.tokenizer.cls_token_id not in ids
    with pytest.warns(UserWarning, match="longer than max_length=6"):
        row = encoder.collate_ids([ids])["input_ids"][0].tolist()
    assert row == [encoder.tokenizer.cls_token_id, *ids[:4], encoder.tokenizer.sep_token_id]
    assert row == encoder.tokenizer([TEXTS[3]], truncation=True, max_length=6)["input_ids"][0]
    assert encoder.lengths(["", TEXTS[3]]).tolist() == [2, 6]


def test_training_texts_are_tokenised_once(monkeypatch):
    encoder = transformer().train()
    encoder._room = 60
    plain = encoder._tokenised(TEXTS)
    asked: list[str] = []
    original = encoder._tokenised
    monkeypatch.setattr(encoder, "_tokenised", lambda texts: asked.extend(texts) or original(texts))
    for _ in range(2):
        found = encoder.ids(TEXTS)
        assert found == plain
        found[0].append(-1)  # what is handed out belongs to the caller
    assert asked.count(TEXTS[0]) == 1
    assert asked.count("a dog") == 1  # twice among the texts
    assert asked.count(TEXTS[3]) == 2  # no room for it
    encoder.eval().ids(TEXTS)
    assert asked.count(TEXTS[0]) == 2


@pytest.mark.parametrize("pooling", ["cls", "mean", "weighted", "last", "max"])
def test_every_parameter_learns(pooling):
    encoder = transformer(pooling=pooling).train()
    (encoder(encoder.collate(TEXTS)) * torch.randn(len(TEXTS), 32)).sum().backward()
    for name, p in encoder.named_parameters():
        assert p.grad is not None, name
        assert p.grad.isfinite().all(), name
        assert p.grad.abs().max() > 0 or name.endswith("key.bias"), name  # softmax ignores a shift of the keys


def test_wrong_settings_are_refused():
    with pytest.raises(ConfigError, match="does not divide"):
        TextTransformerConfig(width=30, heads=4)
    with pytest.raises(ConfigError, match="no pooling 'median'"):
        TextTransformerConfig(pooling="median")
    with pytest.raises(ConfigError, match="model_type"):
        TextTransformerConfig(architecture={"hidden_size": 8})
    with pytest.raises(ConfigError, match="positions for 16 tokens"):
        transformer(architecture={"model_type": "bert", "hidden_size": 12, "max_position_embeddings": 16})
    with pytest.raises(DataError, match="no room"):
        transformer(max_length=2)


def test_sources_that_are_no_models_are_refused_with_a_sentence(tmp_path):
    with pytest.raises(ModelError, match=r"There is no folder \./nowhere"):
        TextTransformer.from_pretrained("./nowhere")
    with pytest.raises(ModelError, match=r"no config\.json"):
        TextTransformer.from_pretrained(tmp_path)
    encoder = transformer()
    encoder.transformer.config.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="no weights"):
        TextTransformer.from_pretrained(tmp_path)
    torch.save(encoder.transformer.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"pytorch_model\.bin.*loading a pickle runs the code.*save_pretrained"):
        TextTransformer.from_pretrained(tmp_path)


def test_a_hub_id_without_a_network_says_so_at_once(monkeypatch, tmp_path):
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    start = time.perf_counter()
    with pytest.raises(ModelError, match="hub cannot be reached"):
        TextTransformer.from_pretrained("nobody/nothing-of-that-name")
    assert time.perf_counter() - start < 5


@pytest.mark.parametrize("template", ['the dog : "{}" and [MASK] .', "[MASK] on the mat : {}", "a [MASK] cat {} ."])
def test_a_prompt_is_read_at_its_mask(template):
    encoder = transformer(pooling="prompt", template=template)
    texts = [*TEXTS, "the [MASK] cat", "a dog " * 40]
    data = encoder.collate(texts)
    assert data["input_ids"].shape[1] == encoder.max_length
    left, right = (encoder.ids([part.replace("[MASK]", "")])[0] for part in template.split("{}"))
    at = []
    for text, ids in zip(texts, data["input_ids"].tolist()):
        real = [i for i in ids if i != encoder.pad]
        mask = [n for n, i in enumerate(real) if i == encoder.tokenizer.mask_token_id]
        at.append(mask[0] if template.index("[MASK]") < template.index("{}") else mask[-1])
        inner = [i for n, i in enumerate(real[1:-1], start=1) if n != at[-1]]
        cut = encoder.max_length - len(left) - len(right) - 3  # of the text, never of the template
        assert inner == [*left, *encoder.ids([text])[0][:cut], *right]
    expected = plainly(encoder, data)[torch.arange(len(texts)), at]
    torch.testing.assert_close(encoder(data), expected, atol=1e-5, rtol=1e-5)


def test_another_pooling_of_the_same_weights():
    encoder = transformer()
    twin = encoder.pooled_by("prompt", template="{} [MASK]")
    assert twin.transformer is encoder.transformer
    assert (encoder.config.pooling, encoder.asked, twin.config.pooling, twin.asked) == ("mean", None, "prompt", -2)
    again = twin.pooled_by("mean")
    torch.testing.assert_close(torch.from_numpy(again.encode(TEXTS)), torch.from_numpy(encoder.encode(TEXTS)))
    assert abs(twin.encode(TEXTS) - encoder.encode(TEXTS)).max() > 1e-2


def test_prompts_that_cannot_be_read():
    for template in ("{}", "[MASK]", "{} {} [MASK]", "{} [MASK] [MASK]"):
        with pytest.raises(ConfigError, match="where its embedding is read"):
            TextTransformerConfig(pooling="prompt", template=template)
    with pytest.raises(DataError, match="no room for text besides the 8 tokens"):
        transformer(pooling="prompt", template="a a a a a {} [MASK]", max_length=8)
    encoder = transformer()
    encoder.tokenizer = copy.deepcopy(encoder.tokenizer)
    encoder.tokenizer.mask_token = None
    with pytest.raises(ConfigError, match="this tokenizer has none"):
        encoder.pooled_by("prompt")
