"""A static encoder read without torch gives what the encoder itself gives."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from counterpoint.encoders import folder
from counterpoint.encoders.query import StaticQueries
from counterpoint.encoders.static import StaticText, StaticTextConfig
from counterpoint.encoders.text import TextTransformer, TextTransformerConfig
from counterpoint.errors import ModelError
from tests.conformance.rows import texts

QUESTIONS = ["the quick brown fox", "fox fox fox jumps", "", "zzz unknown 🦊", "birds " * 600]


def saved(tmp_path: Path, **settings: object) -> tuple[StaticText, Path]:
    encoder = StaticText.from_texts(texts(), StaticTextConfig(dim=16, **settings), prompts={"query": "the "})  # type: ignore[arg-type]
    folder.save(encoder, tmp_path / "model")
    return encoder, tmp_path / "model"


@pytest.mark.parametrize("aggregate", ["mean", "set", "saturating"])
@pytest.mark.parametrize("weights", ["learned", "uniform"])
@pytest.mark.parametrize("model", ["wordpiece", "bpe"])
def test_the_embeddings_are_those_of_the_encoder(aggregate: str, weights: str, model: str, tmp_path: Path) -> None:
    encoder, path = saved(tmp_path, aggregate=aggregate, weights=weights, model=model, max_length=40)
    light = StaticQueries.read(path)
    assert light is not None
    for role in (None, "query", "document"):
        for normalize in (None, False):
            expected = encoder.encode(QUESTIONS, role=role, normalize=normalize)
            assert np.allclose(light.encode(QUESTIONS, role=role, normalize=normalize), expected, atol=1e-6)
    assert light.encode([]).shape == (0, 16)


def test_other_kinds_and_other_folders_are_left_to_the_loader(tmp_path: Path) -> None:
    small = TextTransformerConfig(layers=1, width=16, heads=2, vocabulary=100)
    folder.save(TextTransformer.from_texts(texts(), small), tmp_path / "transformer")
    assert StaticQueries.read(tmp_path / "transformer") is None
    assert StaticQueries.read(tmp_path) is None


def test_damage_is_a_sentence(tmp_path: Path) -> None:
    _, path = saved(tmp_path)
    whole = (path / "model.safetensors").read_bytes()
    (path / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelError, match="cannot be read"):
        StaticQueries.read(path).encode(["the fox"])  # type: ignore[union-attr]
    (path / "tokenizer.json").write_text("{}")
    with pytest.raises(ModelError, match="is damaged"):
        StaticQueries.read(path)


def test_torch_is_not_imported(tmp_path: Path) -> None:
    _, path = saved(tmp_path)
    code = (
        "import sys; from counterpoint.encoders.query import StaticQueries\n"
        "StaticQueries.read(sys.argv[1]).encode(['the fox']); print({'torch', 'transformers'} & set(sys.modules))"
    )
    run = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert run.stdout == "set()\n"
