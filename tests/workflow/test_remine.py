"""Negatives that are mined while a run goes on: what batches hold, and that a run that is killed comes out the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from counterpoint import fit
from counterpoint.data.files.read import read
from counterpoint.data.infer import infer
from counterpoint.data.loader import Loader
from counterpoint.data.refreshed import Renewed
from counterpoint.data.rows import Rows
from counterpoint.data.sampler import Shuffled
from counterpoint.errors import ConfigError
from counterpoint.train.checkpoint import load, numbered
from counterpoint.workflow import remine
from counterpoint.workflow.remine import Remining
from tests.processes import spread
from tests.workflow import made

TRAIN: dict[str, Any] = {
    "steps": 12, "batch": 8, "remine": 4, "remine_ranks": (1, 20), "remine_ratio": None, "remine_number": 2,
    "tensorboard": False, "save_every": 1, "keep": 99, "log_every": 5,
}  # fmt: skip


def silent(_: Any) -> None:
    pass


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made.jsonl(tmp_path_factory.mktemp("data") / "pairs.jsonl", made.rows("pairs", 60))


@pytest.fixture(scope="module")
def whole(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "run"
    fit(data, out=folder, method="in-batch", size="smoke", train=TRAIN, say=silent)
    return folder


def checkpoint(folder: Path, step: int) -> Any:
    (path,) = (p for p in numbered(folder / "checkpoints", "step") if p.name.endswith(f"{step:08d}"))
    return load(path).groups


def test_negatives_change_every_so_many_steps_and_not_between(whole: Path) -> None:
    held = [checkpoint(whole, step)["renewal"]["negatives"].numpy() for step in range(1, 13)]
    # The checkpoint of step 4 is written before the mining that follows it.
    assert [len(x) for x in held[:4]] == [0, 0, 0, 0]
    assert all(np.array_equal(x, held[4]) for x in held[4:8])
    assert all(np.array_equal(x, held[8]) for x in held[8:])
    assert not np.array_equal(held[4], held[8])
    logged = [json.loads(line) for line in (whole / "metrics.jsonl").read_text().splitlines()]
    assert [x["step"] for x in logged if "mine/per_row" in x] == [5, 9]


@pytest.mark.parametrize("step", [3, 4, 6, 9])
@pytest.mark.parametrize("prefetch", [True, False])
def test_a_killed_run_ends_as_the_one_that_was_not(
    whole: Path, data: Path, tmp_path: Path, step: int, prefetch: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the kill falls on the very step after which is mined."""
    from counterpoint.train.loop import Trainer

    def killed(self: Trainer, *, final: bool) -> None:
        save(self, final=final)
        if self.state.step == step:
            raise KeyboardInterrupt

    save = Trainer._save
    train = {**TRAIN, "prefetch": prefetch}
    monkeypatch.setattr(Trainer, "_save", killed)
    with pytest.raises(KeyboardInterrupt):
        fit(data, out=tmp_path / "run", method="in-batch", size="smoke", train=train, say=silent)
    monkeypatch.undo()
    fit((), out=tmp_path / "run", resume=True, say=silent)
    ours, theirs = checkpoint(tmp_path / "run", 12), checkpoint(whole, 12)
    for group in ("model", "optimizer", "renewal"):
        for name, value in theirs[group].items():
            assert value.equal(ours[group][name]), (group, name)


def rows(data: Path) -> Rows:
    raw = read(data)
    return Rows(raw, infer(raw))


def test_a_batch_leaves_out_what_is_wrong_for_one_of_its_anchors(tmp_path: Path) -> None:
    given = rows(made.jsonl(tmp_path / "p.jsonl", [{"anchor": f"a{i}", "positive": f"p{i}"} for i in range(4)]))
    texts = ["p0", "p1", "p2", "p3"]
    renewed = Renewed.of(given, texts, [np.array([i]) for i in range(4)])
    assert [r["negatives"] for r in renewed[[0, 1]]] == [[], []]
    renewed.negatives = np.array([[1, 2], [3, -1], [0, 3], [0, 1]])
    assert [r["negatives"] for r in renewed[[0]]] == [["p1", "p2"]]
    assert renewed[0]["negatives"] == ["p1", "p2"]
    # p1 belongs to row 1 of the batch, which holds it as a positive anyway.
    assert [r["negatives"] for r in renewed[[1, 0]]] == [["p3"], ["p2"]]
    assert [r["negatives"] for r in renewed[np.array([3, 2])]] == [["p0", "p1"], ["p0"]]


def test_processes_share_a_batch_that_one_of_them_would_have_made(tmp_path: Path) -> None:
    """Also what is wrong for an anchor of another process is left out."""
    given = rows(made.jsonl(tmp_path / "p.jsonl", [{"anchor": f"a{i}", "positive": f"p{i}"} for i in range(9)]))
    renewed = Renewed.of(given, [f"p{i}" for i in range(9)], [np.array([i]) for i in range(9)])
    renewed.negatives = np.random.default_rng(0).integers(0, 9, (9, 4))
    whole = list(zip(range(6), Loader(renewed, Shuffled(9, 5, seed=0))))
    shares = [list(zip(range(6), Loader(renewed, Shuffled(9, 5, seed=0), rank=r, world=2))) for r in range(2)]
    for (_, batch), (_, first), (_, second) in zip(whole, *shares):
        assert (batch[::2], batch[1::2]) == (first, second)
        assert not {n for row in batch for n in row["negatives"]} & {row["positive"] for row in batch}


def shared(rank: int, world: int, data: str, folder: str, train: dict[str, Any]) -> None:
    """A run of this process and others; all hold the negatives of the checkpoint, whoever mined them."""
    made_here: list[Remining] = []
    begin = Remining.__init__

    def kept(self: Remining, *given: Any) -> None:
        begin(self, *given)
        made_here.append(self)

    Remining.__init__ = kept  # type: ignore[method-assign]
    mined = []
    dense = remine.dense
    remine.dense = lambda *given, **named: mined.append(rank) or dense(*given, **named)  # type: ignore[attr-defined]
    fit(Path(data), out=folder, method="in-batch", size="smoke", train=train, say=silent)
    held = made_here[-1].rows.negatives
    assert held is not None
    assert np.array_equal(held, checkpoint(Path(folder), train["steps"])["renewal"]["negatives"].numpy())
    assert mined == ([] if rank else [0] * ((train["steps"] - 1) // train["remine"]))


@pytest.mark.slow
@pytest.mark.parametrize(
    "more",
    [
        {"parallel": "ddp"},
        # A batch of 3, in which the share of one process, or of both, may have no negative at all.
        {"parallel": "fsdp", "batch": 3, "remine_ratio": 0.5, "remine_number": 1, "steps": 20},
    ],
)
def test_two_processes_mine_what_one_would_have(data: Path, tmp_path: Path, more: dict[str, Any]) -> None:
    train = {**TRAIN, "device": "cpu", **more}
    fit(data, out=tmp_path / "one", method="in-batch", size="smoke", train=train, say=silent)
    spread(shared, 2, str(data), str(tmp_path / "two"), train)
    for step in range(1, train["steps"] + 1):
        one, two = (checkpoint(tmp_path / name, step) for name in ("one", "two"))
        assert one["renewal"]["negatives"].equal(two["renewal"]["negatives"]), step
    assert (one["renewal"]["negatives"] >= 0).any()
    for name, value in one["model"].items():
        np.testing.assert_allclose(two["model"][name].numpy(), value.numpy(), atol=2e-5, err_msg=name)


def test_what_cannot_be_mined_is_refused(data: Path, tmp_path: Path) -> None:
    texts = made.jsonl(tmp_path / "t.jsonl", made.rows("texts", 40))
    with pytest.raises(ConfigError, match="pairs of texts that lie in one table"):
        fit(texts, out=tmp_path / "a", size="smoke", train=TRAIN, say=silent)
    far = {**TRAIN, "remine_ranks": (500, 900)}
    with pytest.raises(ConfigError, match=r"so none has rank 500\. Type for instance: --remine-ranks 1 20"):
        fit(data, out=tmp_path / "b", method="in-batch", size="smoke", train=far, say=silent)

    class Deaf:
        spec = type("Spec", (), {"name": "deaf"})

        def views(self, rows: Any, rng: Any) -> Any:
            from counterpoint.data.batch import Batch

            return Batch((), __import__("torch").arange(len(rows)))

    from counterpoint.train.config import TrainConfig

    with pytest.raises(ConfigError, match="The method deaf looks at no negatives"):
        Remining(rows(data), TrainConfig(remine=4, remine_ranks=(1, 9)), Deaf())  # type: ignore[arg-type]
