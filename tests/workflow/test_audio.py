"""Recordings from end to end: a folder is fitted, columns of files and of samples are encoded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from scipy.io import wavfile

from counterpoint.data.files import media
from counterpoint.encoders import folder
from counterpoint.encoders.audio import AudioTransformer, AudioTransformerConfig
from counterpoint.errors import DataError
from counterpoint.workflow.bulk.embed import EMBEDDING, Embed
from counterpoint.workflow.fit import fit


def sounds(where: Path, n: int) -> list[Path]:
    where.mkdir()
    rng = np.random.default_rng(0)
    paths = [where / f"{i:03d}.wav" for i in range(n)]
    for path in paths:
        wavfile.write(path, 8000, (rng.normal(size=3000) * 3000).astype(np.int16))
    return paths


def test_files_and_samples_are_encoded_alike_and_no_row_is_lost(tmp_path: Path) -> None:
    torch.manual_seed(0)
    small = AudioTransformerConfig(rate=8000, bands=20, channels=4, dim=16, depth=1, heads=2)
    folder.save(AudioTransformer(small), tmp_path / "model")
    paths = sounds(tmp_path / "wav", 3)
    numbers = [wavfile.read(p)[1].tolist() for p in paths]
    files = [{"bytes": p.read_bytes(), "path": None} for p in paths]
    files[1] = {"bytes": files[1]["bytes"][:100], "path": None}
    one = Embed(tmp_path / "model", column="audio", batch=2)
    of_files = one(pa.table({"audio": pa.array(files, media.ARROW)}))[EMBEDDING]
    assert [v is None for v in of_files.to_pylist()] == [False, True, False]
    assert one.missing == 1
    table = pa.table({"audio": numbers, "rate": [8000] * 3})
    of_numbers = Embed(tmp_path / "model", column="audio", batch=2)(table)[EMBEDDING].to_pylist()
    for i in (0, 2):
        assert np.abs(np.array(of_numbers[i]) - of_files.to_pylist()[i]).max() < 1e-5
    with pytest.raises(DataError, match="rate in hertz beside them"):
        Embed(tmp_path / "model", column="audio")(table.drop_columns(["rate"]))


def test_a_folder_of_recordings_is_fitted_and_measured_by_halves(tmp_path: Path) -> None:
    sounds(tmp_path / "wav", 110)
    said: list[str] = []
    done = fit(
        tmp_path / "wav", out=tmp_path / "run", size="smoke", train={"steps": 2}, say=lambda x: said.append(str(x))
    )
    assert done.method.spec.name == "w2v-bert"
    assert any("first half of each recording" in line for line in said)
    assert folder.load(tmp_path / "run" / "model").modality == "audio"
