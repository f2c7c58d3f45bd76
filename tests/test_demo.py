"""The demo on made-up packages: what it writes, what it holds out, and that the index finds what was put in."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from counterpoint import demo
from counterpoint.cli import main
from counterpoint.data.sets.code import CodePair
from counterpoint.errors import ConfigError
from counterpoint.search.index import Index

pytest.importorskip("bm25s")
VERBS = ["open", "close", "read", "write", "parse", "merge", "split", "sort", "filter", "count", "join", "copy", "move"]
NOUNS = ["file", "table", "row", "column", "archive", "socket", "token", "tree", "graph", "node", "edge", "date"]


def made(packages: int = 30, functions: int = 24) -> list[CodePair]:
    """Functions whose docstring and source share words, as real ones do."""
    rng = np.random.default_rng(0)
    out = []
    for p in range(packages):
        for f in range(functions):
            verb, noun, other = rng.choice(VERBS), rng.choice(NOUNS), rng.choice(NOUNS)
            text = f"{verb.title()} the {noun} of every {other} number {p * functions + f}."
            code = f"def {verb}_{noun}_{p}_{f}({other}):\n    {noun} = {other}.{verb}()\n    return {noun}"
            out.append(CodePair(text, code, f"package{p}", f"{verb}_{noun}_{p}_{f}", f"package{p}/m.py", 3 * f + 1))
    return out


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, object]]:
    folder = tmp_path_factory.mktemp("demo") / "run"
    patch = pytest.MonkeyPatch()
    patch.setattr(demo, "harvest", made)
    patch.setattr(demo, "split", lambda pairs: demo_split(pairs))
    patch.setitem(demo.SIZES, "smoke", demo.Size(32, 64, 4, 10_000, 60))
    try:
        return folder, demo.run(folder, size="smoke")
    finally:
        patch.undo()


def demo_split(pairs: list[CodePair]) -> object:
    from counterpoint.data.sets.code import split

    return split(pairs, test=100, dev=100, giant=50)


def test_metrics_hold_systems_differences_seconds_and_versions(ran: tuple[Path, dict[str, object]]) -> None:
    folder, returned = ran
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics == json.loads(json.dumps(returned))
    assert set(metrics["systems"]) == {"dense", "bm25", "hybrid"}
    for found in metrics["systems"].values():
        assert set(found) == {"mrr@10", "ndcg@10", "recall@10", "recall@100"}
    for name in ("dense", "hybrid"):
        gap = metrics["systems"][name]["mrr@10"] - metrics["systems"]["bm25"]["mrr@10"]
        found = metrics["differences"][f"{name} - bm25"]
        assert found["value"] == pytest.approx(gap, abs=1e-9)
        assert found["ci95"][0] <= found["value"] <= found["ci95"][1]
    assert {"harvest", "train", "evaluate", "index", "report"} <= set(metrics["seconds"])
    assert {"pairs", "queries", "versions"} <= set(metrics)


def test_packages_are_on_one_side_only(ran: tuple[Path, dict[str, object]]) -> None:
    _, metrics = ran
    test, dev = (set(metrics["packages"][part]) for part in ("test", "dev"))  # type: ignore[index]
    assert test
    assert dev
    assert not test & dev
    assert metrics["pairs"] == 24 * (30 - len(test) - len(dev))


def test_the_index_answers_with_file_and_line(
    ran: tuple[Path, dict[str, object]], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, _ = ran
    pair = made()[77]
    assert main(["search", str(folder), pair.name.replace("_", " "), "--mode", "bm25", "--k", "1"]) == 0
    assert f"{pair.file}:{pair.line}" in capsys.readouterr().out
    assert (folder / "report.html").stat().st_size > 100_000


def test_the_share_that_was_learned_on_dev_is_measured_and_kept_in_the_index(
    ran: tuple[Path, dict[str, object]], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, metrics = ran
    share = Index.open(folder / "index").share
    assert metrics["hybrid"] == share.to_json()
    assert metrics["share"] == share.alpha
    assert share.source.endswith("functions of packages that were held out")
    assert share.figures["hybrid"] >= max(share.figures["dense"], share.figures["bm25"])
    assert main(["search", str(folder), "parse"]) == 0
    assert share.source in " ".join(capsys.readouterr().out.split())


def test_one_seed_gives_one_result(ran: tuple[Path, dict[str, object]], tmp_path: Path) -> None:
    """The encoder trained twice with the same seed is the same, bit for bit."""
    pairs, size = made(), demo.Size(32, 64, 4, 10_000, 60)
    dev = demo.Held(pairs[:100], 50)
    first, second = (demo.learn(pairs[100:], dev, size, tmp_path / name, seed=3).encoder for name in "ab")
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


def test_a_run_is_not_overwritten_unasked(ran: tuple[Path, dict[str, object]]) -> None:
    with pytest.raises(ConfigError, match="--overwrite"):
        demo.run(ran[0], size="smoke")


def test_a_docstring_that_two_functions_share_is_no_query() -> None:
    same = [CodePair("Close it now.", f"def a{i}(): pass", "p", "a", "f", i) for i in range(2)]
    held = demo.Held([*same, CodePair("Open it up.", "def b(): pass", "p", "b", "f", 9)], most=10)
    assert held.queries == ["Open it up."]
    assert held.judgements.gains(np.array([[2, 0]])).tolist() == [[1.0, 0.0]]
