"""Models, runs and indexes that version 0.1.0 wrote before its modules were renamed still load, go on and are searched.

written_before.json.gz holds their text files as they were. No weights are kept: of each tensor its type and shape, from
which the same values are drawn here as there (small and integer tensors, such as random states, stand as they are). The
embeddings are those that the encoders gave then with these values.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import zlib
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import counterpoint
from counterpoint.encoders import folder
from counterpoint.modalities.audio import Recording
from counterpoint.search.index import Index


@cache
def written() -> dict[str, Any]:
    return json.loads(gzip.decompress((Path(__file__).parent / "written_before.json.gz").read_bytes()))


def tensor(name: str, said: list[Any]) -> torch.Tensor:
    kind, shape, how = said
    dtype = getattr(torch, kind)
    if how.startswith("="):
        held = np.frombuffer(zlib.decompress(base64.b64decode(how[1:])), dtype=np.uint8).copy()
        return torch.from_numpy(held).view(dtype).reshape(shape)
    drawn = np.random.default_rng(zlib.crc32(name.encode())).normal(0, 0.2, size=shape)
    x = torch.from_numpy(np.asarray(drawn, dtype=np.float32)).reshape(shape)
    return (x.abs() + 0.5 if how == "positive" else x).to(dtype)


def unpacked(held: dict[str, Any], root: Path) -> Path:
    for name, text in held["files"].items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    for name, weights in held["weights"].items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        values = {key: tensor(key, said) for key, said in weights["tensors"].items()}
        save_file(values, root / name, metadata=weights["metadata"])
    for sums in root.rglob("SHA256SUMS"):
        files = sorted(p for p in sums.parent.iterdir() if p != sums)
        sums.write_text("".join(f"{hashlib.sha256(p.read_bytes()).hexdigest()}  {p.name}\n" for p in files))
    return root


def items(said: Any, modality: str) -> list[Any]:
    if said == "pictures":
        draws = (np.random.default_rng(i) for i in range(3))
        return [Image.fromarray(rng.integers(0, 256, (24, 24, 3), dtype=np.uint8)) for rng in draws]
    if said == "sounds":
        draws = (np.random.default_rng(i).normal(0, 0.1, 4000 + 1000 * i) for i in range(3))
        return [Recording(samples.astype(np.float32), 8000) for samples in draws]
    if modality in ("vector", "series"):  # of a bag: lists of vectors
        return [np.asarray(x, np.float32) if isinstance(x[0], float) or modality == "series" else
                [np.asarray(v, np.float32) for v in x] for x in said]  # fmt: skip
    return list(said)


@pytest.mark.parametrize("name", sorted(written()["encoders"]))
def test_a_model_folder_still_loads_and_gives_the_same_embeddings(name: str, tmp_path: Path) -> None:
    held = written()["encoders"][name]
    encoder = folder.load(unpacked(held, tmp_path / "model"))
    assert encoder.modality == held["modality"]
    state = encoder.state_dict()
    assert state
    if held["items"] is not None:
        found = encoder.encode(items(held["items"], held["modality"]))
        assert np.allclose(found[:, :4], held["embeddings"], atol=2e-4)


def test_a_run_goes_on_where_it_was(tmp_path: Path) -> None:
    run = unpacked(written()["run"], tmp_path / "run")
    words = ["red", "blue", "green", "small", "large", "old", "new", "fast", "slow", "warm", "cold", "dry"]
    anchors = [f"{words[i % 12]} {words[(i * 5 + 1) % 12]} house {i}" for i in range(80)]
    positives = [f"a {words[i % 12]} home, number {i}" for i in range(80)]
    rows = [{"anchor": a, "positive": p} for a, p in zip(anchors, positives)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    counterpoint.fit(tmp_path / "rows.jsonl", out=run, resume=True, train={"epochs": 2}, say=lambda _: None)
    assert json.loads((run / "metrics.json").read_text())["steps"] == 10
    assert counterpoint.load(run).encode(["a house"]).shape[0] == 1


def test_an_index_is_still_searched(tmp_path: Path) -> None:
    run = unpacked(written()["run"], tmp_path / "run")
    for name, data in written()["index"].items():
        (tmp_path / "index" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "index" / name).write_bytes(base64.b64decode(data))
    index = Index.open(tmp_path / "index")
    found = index.search(["a red home"], encoder=counterpoint.load(run), mode="bm25", k=3)
    assert "red" in str(found)
