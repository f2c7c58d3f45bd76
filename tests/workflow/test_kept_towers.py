"""One encoder for each tower, and towers that a method keeps as they are."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from counterpoint import load
from counterpoint.encoders import folder
from counterpoint.encoders.static import StaticText, StaticTextConfig
from counterpoint.errors import ConfigError
from counterpoint.workflow.models import SETTINGS, choice_for
from tests.workflow import made
from tests.workflow.conftest import Run

datasets = pytest.importorskip("datasets")
pytest.importorskip("PIL")

TEXTS = ["a fugue", "the tide", "old rope"]
STEPS = ("--method", "cwcl", "--size", "smoke", "--steps", "3", "--tensorboard", "False")


@pytest.fixture
def captions(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    rows = [{"image": made.picture(rng, t), "text": made.text(rng, t)} for t in made.topics(rng, 60)]
    datasets.Dataset.from_list(rows).cast_column("image", datasets.Image()).to_parquet(tmp_path / "captions.parquet")
    return tmp_path / "captions.parquet"


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    texts = iter([r["text"] for r in made.rows("texts", 60)])
    folder.save(StaticText.from_texts(texts, StaticTextConfig(dim=16)), tmp_path / "trained")
    return tmp_path / "trained"


def test_an_encoder_for_each_tower_or_one_for_all(tmp_path: Path) -> None:
    both = ("image", "text")
    assert [choice_for(s, "transformer", both) for s in both] == ["transformer"] * 2
    assert [choice_for(s, "text=a/b=c,image=static", both) for s in both] == ["static", "a/b=c"]
    assert [choice_for(s, "text=org/name", both) for s in both] == ["auto", "org/name"]
    (odd := tmp_path / "text=x").mkdir()  # a folder of such a name is a folder
    assert choice_for("image", str(odd), both) == str(odd)
    with pytest.raises(ConfigError, match="names the tower 'audio'; these rows have image and text"):
        choice_for("text", "audio=x", both)


def test_the_kept_tower_is_the_one_given_and_the_other_trains_from_scratch(
    run: Run, tmp_path: Path, captions: Path, trained: Path
) -> None:
    out = tmp_path / "run"
    done = run("fit", captions, "--out", out, "--encoder", f"text={trained}", *STEPS)
    assert done.code == 0
    assert "never trained" not in done.all
    np.testing.assert_allclose(load(out, "text").encode(TEXTS), load(trained).encode(TEXTS), atol=1e-6)
    config = json.loads((out / "config.json").read_text())
    assert config["begins"] == "recipe"  # what is trained was not trained before: no small steps
    assert config["train"]["lr"] != SETTINGS["pretrained"]["lr"]


def test_a_kept_tower_that_was_never_trained_is_said(run: Run, tmp_path: Path, captions: Path) -> None:
    done = run("fit", captions, "--out", tmp_path / "run", *STEPS)
    assert done.code == 0
    assert "keeps the text tower as it is, and this one was never trained" in done.all


def test_rows_of_another_kind_are_refused_with_what_is_needed(run: Run, tmp_path: Path) -> None:
    pairs = made.jsonl(tmp_path / "pairs.jsonl", made.rows("pairs", 20))
    done = run("fit", pairs, "--out", tmp_path / "run", *STEPS)
    assert done.code == 2
    assert "needs two modalities of one thing" in done.all
