"""Every verb of the command line is a function of the library, with the same settings and the same result."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import counterpoint
from counterpoint.cli import verbs
from counterpoint.errors import ConfigError
from tests.workflow import made

RENAMED = {"eval": "evaluate", "data": "inspect"}
"""Verb -> its function, where the field's word for a function is another one."""
OTHERWISE: dict[str, dict[str, str]] = {
    "*": {"files": "reading", "json": "the result has to_json, or is plain values"},
    "fit": {"set": "settings", "config": "train: what the file holds", "train": "train, a mapping"},
    "diagnose": {"html": "counterpoint.report.diagnosis.write"},
    "index": {"no_bm25": "bm25"},
    "search": {"item": "items"},
    "data": {"what": "inspect; data.sets.registry lists and describes", "source": "source, the rows"},
    "report": {"run": "folder"},
    "demo": {"out": "folder"},
    "prove": {
        "methods": "name, one method",
        "smoke": "counterpoint.workflow.prove.smoke",
        "all": "counterpoint.workflow.prove.proofs",
        "full": "counterpoint.workflow.prove.described",
    },
}
"""Options of a verb that its function says in another way, and how."""


def function_of(verb: str) -> Callable[..., Any]:
    name = RENAMED.get(verb, verb)
    assert callable(getattr(counterpoint, name)), f"counterpoint.{name}"
    return counterpoint.verb(name)  # type: ignore[no-any-return]


@pytest.mark.parametrize("verb", verbs())
def test_every_option_is_a_parameter(verb: str) -> None:
    taken = inspect.signature(function_of(verb)).parameters
    asked = inspect.signature(verbs()[verb]).parameters
    otherwise = OTHERWISE["*"] | OTHERWISE.get(verb, {})
    missing = [name for name in asked if name not in taken and name not in otherwise]
    assert not missing
    stale = [name for name in OTHERWISE.get(verb, {}) if name not in asked]
    assert not stale
    for name in asked.keys() & taken.keys() - otherwise.keys():
        one, other = asked[name].default, taken[name].default
        both = one is not inspect.Parameter.empty and other is not inspect.Parameter.empty
        assert not both or _plain(one) == _plain(other), f"{name}: {one!r} on the command line, {other!r} in Python"


def _plain(default: Any) -> Any:
    """A default as both say it: nothing is (), "", None, False or an empty mapping; the command line types words."""
    if default is None or default in ((), "", False, ("all",)):
        return None
    if isinstance(default, Path):
        return str(default)
    return "{}-{}".format(*default) if isinstance(default, tuple) and len(default) == 2 else default


def test_every_parameter_is_in_the_docstring() -> None:
    missing = []
    for verb in verbs():
        function = function_of(verb)
        said = set(re.findall(r"\w+", inspect.getdoc(function) or ""))
        missing += [f"{verb}: {name}" for name in inspect.signature(function).parameters if name not in said]
    assert not missing


# --- the same result --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A run and the pairs that it learned from."""
    root = tmp_path_factory.mktemp("trained")
    data = made.jsonl(root / "pairs.jsonl", made.rows("pairs", 60))
    train = {"steps": 6, "progress": False}
    counterpoint.fit(str(data), out=root / "run", size="smoke", train=train, say=lambda _: None)
    return root / "run", data


def frame(data: Path) -> pd.DataFrame:
    return pd.DataFrame([json.loads(line) for line in data.read_text().splitlines()])


def test_fit_on_rows_in_memory(trained: tuple[Path, Path], tmp_path: Path) -> None:
    """The model of a file; what cannot be read again at a resume is asked for."""
    run, data = trained
    train = {"steps": 6, "progress": False}
    silent: dict[str, Any] = {"size": "smoke", "say": lambda _: None}
    found = counterpoint.fit(frame(data), out=tmp_path / "run", train=train, **silent)
    texts = ["a green boat", "over the hill"]
    same = counterpoint.load(run).encode(texts)
    assert np.array_equal(counterpoint.load(tmp_path / "run").encode(texts), same)
    assert found.metrics["title"] == "in-batch on DataFrame, 60 rows"
    more = {"steps": 8, "progress": False}
    with pytest.raises(ConfigError, match=r"rows that were in memory \(DataFrame, 60 rows\)"):
        counterpoint.fit(out=tmp_path / "run", train=more, resume=True, **silent)
    again = counterpoint.fit(frame(data), out=tmp_path / "run", train=more, resume=True, **silent)
    assert again.result.steps == 8
    tested = counterpoint.fit(frame(data), out=tmp_path / "tested", test=frame(data)[:12], train=train, **silent)
    assert tested.metrics["queries"] == 12


def test_encode(trained: tuple[Path, Path], run: Callable[..., Any], tmp_path: Path) -> None:
    model, data = trained
    assert run("encode", model, data, "--column", "question", "--out", tmp_path / "a.npy").code == 0
    found = counterpoint.encode(model, frame(data), column="question", out=tmp_path / "b.npy")
    assert np.array_equal(np.load(tmp_path / "a.npy"), np.load(tmp_path / "b.npy"))
    assert (found.rows, found.dim) == np.load(found.out).shape
    folder = tmp_path / "c"
    with pytest.raises(ConfigError, match=r"a folder is written from parquet files"):
        counterpoint.encode(model, frame(data), column="question", out=folder)
    assert not folder.exists()


def test_evaluate(trained: tuple[Path, Path], run: Callable[..., Any], tmp_path: Path) -> None:
    model, data = trained
    said = run("eval", model, data, "--json", tmp_path / "found.json")
    assert said.code == 0, said.all
    found = counterpoint.evaluate(model, frame(data))
    typed = json.loads((tmp_path / "found.json").read_text())
    assert found.to_json()["figures"] == typed["figures"]
    assert any("was trained on rows of" in line for line in counterpoint.evaluate(model, data).notes)
    costs = counterpoint.evaluate(model, data, dtype=["int8"]).to_json()
    assert "try" not in costs


def test_mine(trained: tuple[Path, Path], run: Callable[..., Any], tmp_path: Path) -> None:
    model, data = trained
    words = ("--ranks", "1-20", "--ratio", "none", "--cache", tmp_path / "cache")
    assert run("mine", model, data, "--out", tmp_path / "a.jsonl", *words).code == 0
    found = counterpoint.mine(
        model, frame(data), out=tmp_path / "b.jsonl", ranks=(1, 20), ratio=None, cache=tmp_path / "cache"
    )
    negatives = [[json.loads(line)["negatives"] for line in (tmp_path / f"{x}.jsonl").open()] for x in "ab"]
    assert negatives[0] == negatives[1]
    assert found.counts.mined == sum(map(len, negatives[0]))


def test_export_and_merge(trained: tuple[Path, Path], tmp_path: Path) -> None:
    model, _ = trained
    pytest.importorskip("onnxruntime")
    assert counterpoint.export(model, to="onnx", out=tmp_path / "a.onnx").worst <= 1e-5
    merged = counterpoint.merge([model, model], out=tmp_path / "merged")
    one = counterpoint.load(model).encode(["a green boat"])
    assert np.allclose(merged["text"].encode(["a green boat"]), one, atol=1e-6)


def test_modules_of_the_same_name_can_be_called(trained: tuple[Path, Path]) -> None:
    assert counterpoint.methods("simcse") == counterpoint.methods()["simcse"]
    assert counterpoint.report(trained[0]) == trained[0] / "report.html"
    assert counterpoint.inspect(str(trained[1])).rows == 60
    assert ("counterpoint", counterpoint.__version__, "") in counterpoint.doctor()
