"""`fit` on several files, each with batches and an objective of its own."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from counterpoint.errors import ConfigError, DataError
from counterpoint.train.config import TrainConfig
from counterpoint.workflow.batching import make_loader
from counterpoint.workflow.fit import fit
from counterpoint.workflow.gather import gather, names_of
from tests.conformance.rows import rows


def write(path: Path, kind: str, n: int, **more: Any) -> str:
    found = [{k: v for k, v in r.items() if k not in ("row", "negatives", "source")} | more for r in rows(kind, n)]
    path.write_text("\n".join(map(json.dumps, found)))
    return str(path)


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    sizes = {"pairs": 240, "scored": 120, "texts": 100}
    return [write(tmp_path / f"{kind}.jsonl", kind, n) for kind, n in sizes.items()]


def gathered(data: list[str], *, mix: bool = False, test: Any = (), columns: Any = None, split: Any = None) -> Any:
    return gather(data, columns=columns or {}, test=test, split=split, streaming=None, mix=mix)


def test_files_of_unlike_columns_stay_apart_and_each_is_measured(files: list[str], tmp_path: Path) -> None:
    said: list[str] = []
    found = fit(files, out=tmp_path / "run", size="smoke", say=lambda what: said.append(str(what)))
    assert found.method.spec.name == "multitask"
    figures = found.metrics["systems"]["model"]
    assert {"pairs/ndcg@10", "scored/spearman", "texts/ndcg@10"} <= set(figures)
    logged = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    losses = {key.split("/")[1] for line in logged for key in line if key.startswith("loss/")}
    assert losses <= {"pairs", "scored", "texts"}
    assert any("p ∝ n^0.5 for a source that makes n: pairs 8 of 28 rows" in line for line in said), said
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["schema"]["sources"] == ["pairs", "scored", "texts"]


def test_a_range_of_scores_holds_for_the_files_that_have_scores(files: list[str]) -> None:
    given = gathered(files, columns={"range": "-9..200"})
    assert [part.schema.range for part in given.rows.parts] == [None, (-9, 200), None]
    with pytest.raises(DataError, match=r"scored: Column 'score' lies outside 200 to 300 in 120 of 120 rows"):
        gathered(files, columns={"range": "200..300"})
    with pytest.raises(DataError, match=r"range=0\.\.1 says what scores there can be, and none of the files"):
        gathered([files[0], files[2]], columns={"range": "0..1"})


def test_a_mixed_run_that_was_stopped_goes_on_as_if_it_had_not(files: list[str], tmp_path: Path) -> None:
    quiet = {"say": lambda what: None, "size": "smoke"}
    whole = fit(files, out=tmp_path / "whole", train={"steps": 8, "save_every": 4}, **quiet)  # type: ignore[arg-type]
    fit(files, out=tmp_path / "half", train={"steps": 8, "save_every": 4}, **quiet)  # type: ignore[arg-type]
    steps = sorted((tmp_path / "half" / "checkpoints").glob("step*8*"))
    assert steps
    for path in steps:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    (tmp_path / "half" / "metrics.json").unlink()
    half = fit(out=tmp_path / "half", resume=True, say=lambda what: None)
    for key, value in whole.method.state_dict().items():
        assert torch.equal(value, half.method.state_dict()[key]), key


def test_files_of_the_same_columns_are_one_table_unless_they_are_mixed(tmp_path: Path) -> None:
    data = [write(tmp_path / f"{name}.jsonl", "pairs", n) for name, n in (("large", 400), ("small", 100))]
    assert gathered(data).schema.sources == ()
    given = gathered(data, mix=True)
    assert (given.schema.kind, given.schema.sources) == ("pairs", ("large", "small"))
    config = TrainConfig(batch=16, mix=0.5, batch_of={"small": 10})
    loader = make_loader(given, config)
    for _ in range(30):
        batch = next(loader)
        [source] = {r["source"] for r in batch}
        assert len(batch) == (16, 10)[source]
    with pytest.raises(ConfigError, match="batch_of names the source 'huge'; there are large, small"):
        make_loader(given, TrainConfig(batch_of={"huge": 3}, mix=0.5))


def test_a_column_of_sources_is_mixed_likewise(tmp_path: Path) -> None:
    path = tmp_path / "all.csv"
    path.write_text("text,lang\n" + "".join(f"words {i} more,{'sv' if i % 5 else 'de'}\n" for i in range(400)))
    given = gathered([str(path)], columns={"source": "lang"}, mix=True)
    loader = make_loader(given, TrainConfig(batch=8, mix=0.0))
    seen = [{r["source"] for r in next(loader)} for _ in range(20)]
    assert all(len(s) == 1 for s in seen)
    assert abs(sum(s == {0} for s in seen) - 10) <= 5
    plain = gathered([str(path)], columns={"text": "text"}, mix=True)
    make_loader(plain, TrainConfig(batch=8, mix=0.5))
    assert any("of one source. Give several files, or name the column" in line for line in plain.log.lines())
    with pytest.raises(ConfigError, match=r"--mix 0\.5"):
        make_loader(given, TrainConfig(batch_of={"sv": 4}))
    kinds = make_loader(given, TrainConfig(batch=8, mix=0.0, batch_of={"texts": 5}))
    assert {len(next(kinds)) for _ in range(9)} == {5}


def test_test_files_measure_what_they_are_like(files: list[str], tmp_path: Path) -> None:
    held = write(tmp_path / "held.jsonl", "scored", 12)
    given = gathered(files, test=[held])
    assert [r["source"] for r in given.held] == [1] * 12
    assert len(given.rows) == 460
    other = tmp_path / "other.csv"
    other.write_text("x,y\n1,2\n")
    with pytest.raises(DataError, match=r"other\.csv has the columns of none of the sources"):
        gathered(files, test=[str(other)])


def test_columns_are_named_for_the_files_that_have_them(tmp_path: Path) -> None:
    one, two = tmp_path / "one.csv", tmp_path / "two.csv"
    one.write_text("x,y\n" + "".join(f"left {i},right {i}\n" for i in range(30)))
    two.write_text("a,b,score\n" + "".join(f"l {i},r {i},{i}\n" for i in range(30)))
    given = gathered([str(one), str(two)], columns={"anchor": "y", "positive": "x"})
    assert given.schema.parts[0].columns == {"anchor": "y", "positive": "x"}
    assert given.schema.parts[1].kind == "scored"
    with pytest.raises(DataError, match="None of the files has all of the columns q, x"):
        gathered([str(one), str(two)], columns={"anchor": "q", "positive": "x"})
    with pytest.raises(ConfigError, match=r"leave source=\.\.\. out"):
        gathered([str(one), str(two)], columns={"source": "y"})


def test_a_method_that_cannot_read_them_is_refused(files: list[str], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="in-batch needs pairs, but the rows hold sources of several kinds"):
        fit(files, out=tmp_path / "run", method="in-batch", size="smoke", say=lambda what: None)


def test_names_of_sources() -> None:
    assert names_of(["a/nli.jsonl.gz", "b/sts.csv"]) == ["nli", "sts"]
    assert names_of(["a/train.csv", "b/train.csv"]) == ["a/train.csv", "b/train.csv"]
