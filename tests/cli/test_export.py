"""`counterpoint export`: an encoder that is cut on its way out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from counterpoint.encoders import folder
from tests.encoders.samples import TEXTS, transformer


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder.save(transformer(layers=3), tmp_path / "whole")
    return tmp_path / "whole"


def test_a_smaller_encoder_is_a_model_folder(model: Path, tmp_path: Path, run: Any) -> None:
    pytest.importorskip("sentence_transformers")
    small = tmp_path / "small"
    said = run("export", model, "--to", "sentence-transformers", "--layers", 1, "--dim", 4, "--out", small)
    assert said.code == 0, said.err
    assert "gives the same embeddings" in said.out
    whole: Any = folder.load(model)
    z = whole.exits(whole.collate(TEXTS), (1,))[:, 0, :4].detach().numpy()
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    assert np.allclose(folder.load(small).encode(TEXTS), z, atol=1e-5)
    (tmp_path / "texts.txt").write_text("\n".join(text for text in TEXTS if text))
    assert run("encode", small, tmp_path / "texts.txt", "--out", tmp_path / "z.npy").code == 0
    assert np.load(tmp_path / "z.npy").shape == (sum(map(bool, TEXTS)), 4)


@pytest.mark.parametrize(("option", "value"), [("--layers", 4), ("--layers", 0), ("--dim", 33), ("--dim", 0)])
def test_what_is_not_there_is_not_kept(option: str, value: int, model: Path, tmp_path: Path, run: Any) -> None:
    said = run("export", model, "--to", "onnx", "--out", tmp_path / "m.onnx", option, value)
    assert said.code == 2
    assert "keep from 1 to" in said.err
    assert not (tmp_path / "m.onnx").exists()
