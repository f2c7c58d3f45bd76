"""`counterpoint merge`: runs that began alike as one model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from counterpoint.cli import main
from counterpoint.errors import ConfigError, ModelError
from counterpoint.workflow.fit import fit
from counterpoint.workflow.merge import merge
from counterpoint.workflow.models import load
from tests.conformance.rows import rows


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    root = tmp_path_factory.mktemp("runs")
    found = [{"a": r["a"], "b": r["b"], "score": r["score"]} for r in rows("scored", 60)]
    (root / "s.jsonl").write_text("\n".join(map(json.dumps, found)))
    out = []
    for name, lr, seed in (("slow", 0.001, 0), ("fast", 0.003, 0), ("other", 0.001, 1)):
        train = {"lr": lr, "seed": seed, "steps": 3}
        fit(root / "s.jsonl", out=root / name, size="smoke", train=train, say=lambda what: None)
        out.append(root / name)
    return out


def test_the_merged_model_lies_between_its_runs(runs: list[Path], tmp_path: Path) -> None:
    merge(runs[:2], out=tmp_path / "soup", by="uniform")
    assert main(["merge", str(runs[0]), str(runs[1]), "--out", str(tmp_path / "delta")]) == 0
    [start, slow, fast, soup, delta] = (
        {k: v.double() for k, v in load(path).state_dict().items() if v.is_floating_point()}
        for path in (runs[0] / "start", runs[0], runs[1], tmp_path / "soup", tmp_path / "delta")
    )
    for name in slow:
        assert torch.allclose(soup[name], (slow[name] + fast[name]) / 2, atol=1e-6)
        one, two = ((x[name] - start[name]).abs().sum() for x in (slow, fast))
        assert one < two
        expected = (one * slow[name] + two * fast[name]) / (one + two)
        assert torch.allclose(delta[name], expected, atol=1e-6)
    assert load(tmp_path / "delta").encode(["a text"]).shape == load(runs[0]).encode(["a text"]).shape


def test_runs_that_cannot_be_merged(runs: list[Path], tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="did not begin with the same weights"):
        merge([runs[0], runs[2]], out=tmp_path / "out")
    with pytest.raises(ConfigError, match="two or more runs"):
        merge(runs[:1], out=tmp_path / "out")
    with pytest.raises(ConfigError, match="exists"):
        merge(runs[:2], out=runs[2])
    with pytest.raises(ModelError, match="no run of `counterpoint fit`"):
        merge([runs[0], runs[1] / "model"], out=tmp_path / "out")
    assert not (tmp_path / "out").exists()
