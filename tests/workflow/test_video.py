"""Videos from end to end: three files make the modality, and every verb knows it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from counterpoint.data.files.media import ARROW
from counterpoint.encoders import folder
from counterpoint.encoders.video import VideoConvNet
from counterpoint.workflow.bulk.embed import EMBEDDING, Embed
from counterpoint.workflow.fit import fit
from tests.modalities.test_video import film, moving, pictures


def clips(root: Path, *, labelled: bool, n: int = 40) -> Path:
    """Folders of frames: a square goes to the right, or, in the other half, to the left."""
    for i in range(n):
        kind = ("right", "left")[i % 2]
        frames = moving(10, i, size=16)[:: 1 if kind == "right" else -1]
        pictures(root / kind / f"{i:02}" if labelled else root / f"{i:02}", frames)
    return root


@pytest.mark.parametrize(("labelled", "method"), [(True, "supcon"), (False, "simclr")])
def test_a_folder_of_clips_is_fitted_and_measured(tmp_path: Path, labelled: bool, method: str) -> None:
    said: list[str] = []
    done = fit(
        clips(tmp_path / "clips", labelled=labelled, n=110),
        out=tmp_path / "run",
        size="smoke",
        train={"steps": 2, "batch": 8},
        say=lambda x: said.append(str(x)),
    )
    assert done.method.spec.name == method
    told = " ".join(said)
    assert ("a video and its label" if labelled else "the rows hold videos") in told
    assert "mean frame and motion" in (tmp_path / "run" / "metrics.json").read_text()
    assert labelled or "first half of each video had to find its second half" in told
    assert any("counterpoint export" in line for line in said)
    model = folder.load(tmp_path / "run" / "model")
    assert isinstance(model, VideoConvNet)


def test_a_column_of_files_is_encoded_and_no_row_is_lost(tmp_path: Path) -> None:
    torch.manual_seed(0)
    folder.save(VideoConvNet.example(), tmp_path / "model")
    good = film(tmp_path / "x.mkv", moving(6)).read_bytes()
    cells = [{"bytes": good, "path": None}, None, {"bytes": good[:60], "path": None}, {"bytes": good, "path": None}]
    embed = Embed(tmp_path / "model", column="it", batch=2)
    found = embed(pa.table({"it": pa.array(cells, ARROW)}))[EMBEDDING].to_pylist()
    assert [v is None for v in found] == [False, True, True, False]
    assert embed.missing == 2
    expected = folder.load(tmp_path / "model").encode([good])[0]
    assert np.abs(np.array(found[0]) - expected).max() < 1e-6
