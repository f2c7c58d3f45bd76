"""Causal language models: reading on with a cache, folders of `transformers`, and what only such models have."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from counterpoint.encoders import folder
from counterpoint.encoders.causal import CausalLM, CausalLMConfig
from counterpoint.encoders.pooling import pool
from counterpoint.encoders.tokenizer import train_tokenizer
from counterpoint.errors import ConfigError, ModelError
from tests.conformance.rows import texts

TEXTS = ["the quick brown fox", "birds", "seven bright birds sing near an old stone bridge"]
CONFIG = CausalLMConfig(layers=2, width=16, heads=2, vocabulary=200, max_length=24)


@pytest.fixture(scope="module")
def lm() -> CausalLM:
    torch.manual_seed(0)
    return CausalLM.from_texts(texts(), CONFIG).double().eval()


def test_reading_on_is_reading_at_once(lm: CausalLM) -> None:
    """Token by token with the cache, padded on the left: the logits and states of one pass over each text alone."""
    rows = lm.prefix(TEXTS)
    width = max(map(len, rows))
    ids = torch.tensor([[0] * (width - len(r)) + r for r in rows])
    mask = torch.tensor([[False] * (width - len(r)) + [True] * len(r) for r in rows])
    more = torch.tensor([[5, 6, 7], [8, 9, 10], [11, 12, 13]])
    with torch.no_grad():
        found = lm.step(ids, mask)
        for t in range(3):
            mask = torch.cat([mask, torch.ones(3, 1, dtype=torch.bool)], 1)
            found = lm.step(more[:, t : t + 1], mask, found.cache)
        for i, row in enumerate(rows):
            whole = torch.tensor([[*row, *more[i].tolist()]])
            logits, states = lm.predictions({"input_ids": whole, "attention_mask": torch.ones_like(whole)})
            assert torch.allclose(found.logits[i], logits[0, -1], atol=1e-10)
            assert torch.allclose(found.states[i, -1], states[0, -1], atol=1e-10)


def test_a_token_knows_nothing_of_those_after_it(lm: CausalLM) -> None:
    one = torch.tensor([[2, 10, 11, 12, 13]])
    other = torch.tensor([[2, 10, 11, 40, 41]])
    with torch.no_grad():
        a, b = (lm.predictions({"input_ids": x, "attention_mask": torch.ones_like(x)}) for x in (one, other))
    for x, y in zip(a, b):
        assert torch.allclose(x[:, :3], y[:, :3], atol=1e-12)
        assert not torch.allclose(x[:, 3], y[:, 3])


def test_an_embedding_pools_the_last_states(lm: CausalLM) -> None:
    data = lm.collate(TEXTS)
    with torch.no_grad():
        states, mask = lm.tokens(data)
        predicted = lm.predictions(data)[1]
        assert torch.allclose(states, predicted.masked_fill(~mask.unsqueeze(-1), 0), atol=1e-12)
        assert torch.allclose(lm(data), pool(states, mask, mode="mean"))


def test_windows(lm: CausalLM) -> None:
    """Short texts from the first to the last special token; of long ones a piece, which need not hold either."""
    begin, (end,) = lm.begin, lm.ends
    long = " ".join(["fox birds"] * 30)
    data = lm.windows([TEXTS[0], long])
    rows = [ids[mask.bool()].tolist() for ids, mask in zip(data["input_ids"], data["attention_mask"])]
    assert rows[0] == [begin, *lm.ids([TEXTS[0]])[0], end]
    whole = [begin, *lm.ids([long])[0], end]
    assert rows[1] == whole[:24]
    rng = np.random.default_rng(0)
    drawn = {tuple(lm.windows([long], rng)["input_ids"][0].tolist()) for _ in range(300)}
    assert drawn == {tuple(whole[i : i + 24]) for i in range(len(whole) - 23)}


def test_what_is_written_reads_as_a_continuation(lm: CausalLM) -> None:
    prefix = lm.prefix(["the quick"])[0]
    assert lm.text(lm.ids(["brown fox"])[0], prefix) == " brown fox"
    assert lm.text([*lm.ids(["fox"])[0], *lm.ends]) == "fox"
    assert lm.text([], prefix) == ""


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that `transformers` wrote: a tiny GPT-2, whose tokenizer has one special token, as the real one's."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    path = tmp_path_factory.mktemp("gpt2")
    learned = Tokenizer(models.BPE())
    learned.pre_tokenizer, learned.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=350, special_tokens=["<|endoftext|>"], show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())  # fmt: skip
    learned.train_from_iterator(texts(), trainer)
    end = "<|endoftext|>"
    PreTrainedTokenizerFast(tokenizer_object=learned, bos_token=end, eos_token=end).save_pretrained(path)
    torch.manual_seed(0)
    config = GPT2Config(n_layer=2, n_embd=16, n_head=2, n_positions=40, vocab_size=350, bos_token_id=0, eos_token_id=0)
    GPT2LMHeadModel(config).save_pretrained(path)
    return path


def test_a_folder_of_transformers(gpt2: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    lm = CausalLM.from_pretrained(gpt2).eval()
    assert (lm.dim, lm.places, lm.max_length, lm.begin, lm.ends) == (16, 40, 40, 0, (0,))
    theirs, tokenizer = AutoModelForCausalLM.from_pretrained(gpt2), AutoTokenizer.from_pretrained(gpt2)
    ids = tokenizer("the quick brown fox", return_tensors="pt")
    assert lm.prefix(["the quick brown fox"]) == ids["input_ids"].tolist()
    with torch.no_grad():
        expected = theirs(**ids, output_hidden_states=True)
        logits, states = lm.predictions(dict(ids))
    assert torch.allclose(logits, expected.logits, atol=1e-5)
    assert torch.allclose(states, expected.hidden_states[-1], atol=1e-5)
    assert lm.windows(["the fox"])["input_ids"][0, -1] == 0  # it learns where a text ends
    folder.save(lm, tmp_path / "model")
    again = folder.load(tmp_path / "model")
    assert isinstance(again, CausalLM)
    assert np.abs(again.encode(TEXTS) - lm.encode(TEXTS)).max() <= 1e-6
    with torch.no_grad():
        assert torch.allclose(AutoModelForCausalLM.from_pretrained(tmp_path / "model")(**ids).logits, logits, atol=1e-5)


def test_greedy_decoding_is_that_of_transformers(gpt2: Path) -> None:
    from transformers import AutoModelForCausalLM

    from counterpoint.decode.sample import greedy

    lm, theirs = CausalLM.from_pretrained(gpt2), AutoModelForCausalLM.from_pretrained(gpt2)
    for prefix in lm.prefix(TEXTS):
        ids = torch.tensor([prefix])
        out = theirs.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=12)
        expected = out[0, len(prefix) :].tolist()
        assert greedy(lm, [prefix], max_new=12)[0] == expected[: expected.index(0) if 0 in expected else None]


def test_other_libraries_load_what_is_saved(lm: CausalLM, tmp_path: Path) -> None:
    st = pytest.importorskip("sentence_transformers")
    model = CausalLM.from_texts(texts(), CONFIG).eval()
    folder.save(model, tmp_path / "model")
    theirs = st.SentenceTransformer(str(tmp_path / "model"), device="cpu").encode(TEXTS)
    assert np.abs(theirs - model.encode(TEXTS)).max() <= 1e-5


def test_an_onnx_file_gives_the_same_embeddings(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    from counterpoint.encoders.export import onnx

    assert onnx(CausalLM.from_texts(texts(), CONFIG), tmp_path / "lm.onnx") < 1e-5
    assert (tmp_path / "lm.tokenizer.json").exists()


def test_what_is_refused(tmp_path: Path, gpt2: Path) -> None:
    with pytest.raises(ConfigError, match="positions for 40"):
        CausalLM.from_pretrained(gpt2, max_length=41)
    with pytest.raises(ConfigError, match="does not divide"):
        CausalLMConfig(width=10, heads=3)
    with pytest.raises(ModelError, match="no model folder"):
        CausalLM.from_pretrained(tmp_path)
    tokenizer = train_tokenizer(texts(), vocabulary=100)
    assert CausalLM(CausalLMConfig(layers=1, width=8, heads=1, max_length=9), tokenizer).places == 9
