"""The report is one file that needs nothing else, and says what the run's files say."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from counterpoint.errors import DataError
from counterpoint.report.collect import collect, neighbours, project
from counterpoint.report.page import write

pytest.importorskip("plotly")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run folder such as `fit` leaves it, with figures that can be found again in the page."""
    rng = np.random.default_rng(0)
    z = rng.normal(size=(40, 8)).astype(np.float32)
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    collect(tmp_path, z, [f"row {i} </script><b>bold" for i in range(40)], groups=["x", "y"] * 20)
    (tmp_path / "config.json").write_text(json.dumps({"method": "some-method", "why": "because of the columns"}))
    records = [{"step": s, "loss": 2.0 / s, "effective_rank": 3.0, "lr": 0.1} for s in (10, 20, 30)]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    metrics = {
        "systems": {"model": {"mrr@10": 0.61234}, "BM25": {"mrr@10": 0.5}},
        "intervals": {"model": {"mrr@10": [0.6, 0.63]}},
        "differences": {"model - BM25": {"metric": "mrr@10", "value": 0.11234, "ci95": [0.09, 0.13]}},
        "seconds": {"train": 3.0, "evaluate": 1.5},
        "rows": 1234,
    }
    (tmp_path / "metrics.json").write_text(json.dumps(metrics))
    return tmp_path


def test_the_page_needs_nothing_else(run: Path) -> None:
    page = write(run).read_text()
    ours = page.split("<script>")[0]
    assert not re.search(r"""(src|href)=["'](https?:)?//""", ours)
    figures = ("0.6123", "0.1123", "[+0.0900, +0.1300]", "1,234", "30", "4.5")
    for shown in (*figures, "some-method", "because of the columns"):
        assert shown in ours, shown


def test_row_texts_cannot_break_out_of_the_page(run: Path) -> None:
    page = write(run).read_text()
    assert "</script><b>bold" not in page
    assert page.count("</script>") == 2


@pytest.mark.parametrize("said", ["<!--<script>", "</script>", "<script>", "<!-- -->", "&lt;", "\u2028"])
def test_every_figure_stays_whatever_a_row_says(run: Path, said: str) -> None:
    held = json.loads((run / "report" / "map.json").read_text())
    held["text"][0] = said
    (run / "report" / "map.json").write_text(json.dumps(held))
    ours = write(run).read_text().rpartition("<script>")[2]
    assert "<" not in ours.partition("</script>")[0].replace("figures.forEach", "")
    figures = json.loads(re.search(r"const figures = (.*?);figures\.forEach", ours)[1])  # type: ignore[index]
    assert said in json.dumps(figures, ensure_ascii=False)


def test_damaged_files_of_a_run_are_left_out_and_told(run: Path) -> None:
    whole = (run / "metrics.jsonl").read_text()
    (run / "metrics.jsonl").write_text(whole + whole[:20] + "\n[1, 2]\n" + "[" * 3000 + "\n")
    (run / "report" / "map.json").write_text("{")
    (run / "report" / "neighbours.json").write_text("{}")
    page = write(run).read_text()
    for told in ("3 lines of metrics.jsonl", "map.json cannot be read", "neighbours.json cannot be read", "0.6123"):
        assert told in page


def test_a_model_below_a_baseline_is_told_so_in_the_head(run: Path) -> None:
    assert "alarm" not in write(run).read_text().split("<header>")[1].split("</header>")[0]
    metrics = json.loads((run / "metrics.json").read_text())
    metrics |= {"verdict": "The model is below <BM25>.", "try": ["counterpoint diagnose RUN DATA  # it & them"]}
    (run / "metrics.json").write_text(json.dumps(metrics))
    head = write(run).read_text().split("<header>")[1].split("</header>")[0]
    assert "The model is below &lt;BM25&gt;." in head
    assert "counterpoint diagnose RUN DATA  # it &amp; them" in head


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no run"):
        write(tmp_path)


def test_neighbours_are_the_nearest_others_in_order() -> None:
    angles = np.array([0.0, 0.1, 0.3, 3.0])
    z = np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32)
    found = neighbours(z, list("abcd"), queries=1, k=2)
    assert found[0]["query"] == "a"
    assert [h["text"] for h in found[0]["hits"]] == ["b", "c"]  # type: ignore[union-attr]


def test_few_rows_are_projected_by_principal_components() -> None:
    points, name = project(np.eye(3, dtype=np.float32))
    assert (points.shape, name) == ((3, 2), "PCA")


def test_one_text_per_row_is_demanded(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="3 embeddings came with 2 texts"):
        collect(tmp_path, np.eye(3, dtype=np.float32), ["a", "b"])
