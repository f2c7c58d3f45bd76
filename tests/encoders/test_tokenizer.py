"""Vocabularies: the same texts give the same one, in every process."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys

import pytest

from counterpoint.encoders.tokenizer import SPECIAL, reservoir, train_tokenizer
from counterpoint.errors import ConfigError, DataError

TEXTS = [f"Reading line{i} of parseHTTPResponse_v2 yields only résumés, {'ab' * (i % 5)}{i * 37}" for i in range(300)]
TEXTS += ["日本語 текст עברית العربية 🦊 ﬁne"]
DIGEST = """
import hashlib, json, sys
from counterpoint.encoders.tokenizer import train_tokenizer
vocabulary = train_tokenizer(json.load(sys.stdin), vocabulary=400, model=sys.argv[1], identifiers=sys.argv[2] == "1")
print(hashlib.sha256(json.dumps(sorted(vocabulary.get_vocab().items())).encode()).hexdigest())
"""


@pytest.mark.parametrize(("model", "identifiers"), [("wordpiece", "0"), ("wordpiece", "1"), ("bpe", "0")])
def test_the_same_texts_give_the_same_vocabulary_in_another_process(model: str, identifiers: str) -> None:
    own = train_tokenizer(TEXTS, vocabulary=400, model=model, identifiers=identifiers == "1")  # type: ignore[arg-type]
    ours = hashlib.sha256(json.dumps(sorted(own.get_vocab().items())).encode()).hexdigest()
    command = [sys.executable, "-c", DIGEST, model, identifiers]
    theirs = subprocess.run(command, input=json.dumps(TEXTS), capture_output=True, text=True, check=True)
    assert theirs.stdout.strip() == ours


def test_identifiers_are_split_into_their_words() -> None:
    tokenizer = train_tokenizer(["parse HTTP response get item"] * 3, vocabulary=200, identifiers=True)
    assert tokenizer.tokenize("parseHTTPResponse_getItem") == ["parse", "http", "response", "get", "item"]


def test_pieces_put_together_are_the_word() -> None:
    tokenizer = train_tokenizer(TEXTS, vocabulary=120)
    pieces = tokenizer.tokenize("parsing")
    assert len(pieces) > 1
    assert "".join(p.removeprefix("##") for p in pieces) == "parsing"


def test_ids_are_dense_and_special_tokens_come_first() -> None:
    tokenizer = train_tokenizer(TEXTS, vocabulary=300)
    vocabulary = tokenizer.get_vocab()
    assert sorted(vocabulary.values()) == list(range(len(vocabulary)))
    assert {vocabulary[t] for t in SPECIAL.values()} == set(range(len(SPECIAL)))
    assert len(vocabulary) <= 300


def test_a_reservoir_is_drawn_evenly_and_by_its_seed() -> None:
    counts = [0] * 20
    for seed in range(400):
        for text in reservoir(map(str, range(20)), 5, seed=seed):
            counts[int(text)] += 1
    assert min(counts) > 60  # 100 each on average; deviation 8.7
    assert max(counts) < 140
    assert reservoir(map(str, range(20)), 5, seed=1) == reservoir(map(str, range(20)), 5, seed=1)


def test_bad_settings_are_named() -> None:
    with pytest.raises(DataError, match="without a word"):
        train_tokenizer(["", "  "])
    with pytest.raises(ConfigError, match="special tokens"):
        train_tokenizer(TEXTS, vocabulary=3)
    with pytest.raises(ConfigError, match="wordpiece or bpe"):
        train_tokenizer(TEXTS, model="unigram")  # type: ignore[arg-type]
