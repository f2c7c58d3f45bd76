"""Many processes end where one does, whole or in shards; whatever one of them learns or suffers, all of them know."""

from __future__ import annotations

import contextlib
import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from counterpoint.errors import ConfigError
from counterpoint.train.config import TrainConfig
from counterpoint.train.parallel import blocks
from counterpoint.train.setup import share
from counterpoint.train.team import Team
from tests.processes import spread
from tests.train.scenes import CASES, SCENES, Stopped, Stopping, play, train, weights
from tests.train.spread import Shares, Spread, settings

IN_THREE = ["equal", "checkpointed"]
"""Scenes that three processes play too; the others need two only."""


def ordered(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Without the order in which the rows of one batch came into the queue."""
    queue = state["queue.vectors"]
    return {**state, "queue.vectors": queue[queue[:, 0].argsort()]}


def assert_close(actual: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    for name, value in ordered(expected).items():
        torch.testing.assert_close(
            ordered(actual)[name], value, atol=1e-7, rtol=1e-7, msg=lambda m, n=name: f"{n}: {m}"
        )


@pytest.fixture(scope="module")
def alone() -> dict[str, dict[str, Tensor]]:
    """Every case, on one process."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {name: weights(train(kind, **changes)) for name, (kind, changes) in CASES.items()}


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All scenes, played by two processes; they go on from checkpoints of one."""
    folder = tmp_path_factory.mktemp("two")
    for parallel in ("ddp", "fsdp"):
        with contextlib.suppress(Stopped):
            train("queue", folder / "checkpointed" / f"before-{parallel}", Stopping, save_every=4, ema=0.5)
    spread(play, 2, folder, list(SCENES), forked=("tests.train.scenes",))
    return folder


@pytest.fixture(scope="module")
def three(two: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scenes played by three processes; they go on from checkpoints of two, spread in the other way."""
    folder = tmp_path_factory.mktemp("three")
    for parallel, other in (("ddp", "fsdp"), ("fsdp", "ddp")):
        shutil.copytree(two / "checkpointed" / parallel, folder / "checkpointed" / f"before-{other}")
    spread(play, 3, folder, IN_THREE, forked=("tests.train.scenes",))
    return folder


@pytest.fixture(params=[2, 3])
def played(request: pytest.FixtureRequest) -> tuple[int, Path]:
    return request.param, request.getfixturevalue({2: "two", 3: "three"}[request.param])


def found(played: tuple[int, Path], scene: str) -> list[Any]:
    """What each process found in a scene."""
    world, folder = played
    if world == 3 and scene not in IN_THREE:
        pytest.skip("two processes show it")
    return [torch.load(folder / f"{scene}-{rank}.pt", weights_only=True) for rank in range(world)]


# --- the same result ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
@pytest.mark.parametrize("case", CASES)
def test_equals_one_process(played: tuple[int, Path], alone: Any, case: str, parallel: str) -> None:
    """With 11 rows a batch, no two or three processes have equally many."""
    for one in found(played, "equal"):
        state, held = one[case, parallel]
        assert_close(state, alone[case])
        assert held == 1 if parallel == "ddp" else held < 0.75


@pytest.mark.parametrize("after", ["ddp", "fsdp"])
@pytest.mark.parametrize("before", ["ddp", "fsdp"])
def test_a_checkpoint_goes_on_with_another_number_of_processes(
    played: tuple[int, Path], tmp_path: Path, before: str, after: str
) -> None:
    """Of several, on one; of one, on two; of two, on three: always the run that one process makes without a stop."""
    whole = weights(train("queue", ema=0.5))
    several = found(played, "checkpointed")
    shutil.copytree(played[1] / "checkpointed" / before, tmp_path / "run")
    with pytest.warns(UserWarning, match="other settings: parallel") if before == "fsdp" else warnings.catch_warnings():
        assert_close(weights(train("queue", tmp_path / "run", save_every=4, ema=0.5)), whole)
    for one in several:
        assert_close(one[after], whole)


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_resumed_by_as_many_is_the_run_that_never_stopped(played: tuple[int, Path], parallel: str) -> None:
    """Bit for bit, with dropout, noise and averages; with DDP from the checkpoint before a damaged one."""
    states = [one[parallel] for one in found(played, "resumed")]
    for whole, again in states:
        for name, value in whole.items():
            assert torch.equal(again[name], value), name
            assert torch.equal(states[0][0][name], value), f"{name} differs between processes"


def test_processes_draw_different_random_numbers(played: tuple[int, Path]) -> None:
    draws = found(played, "random")
    for a, b in zip(*draws):
        assert not torch.equal(a, b)


# --- the leader --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_the_leaders_figures_stop_all_and_all_hold_the_best(played: tuple[int, Path], parallel: str) -> None:
    leader, *others = (one[parallel] for one in found(played, "best"))
    for best, steps, stopped, shown, last in (leader, *others):
        assert (best, steps, stopped) == ({"step": 4, "value": 0.5, "metrics": {"score": 0.5}}, 8, "early")
        assert torch.equal(last, leader[3][2])
        assert len(shown) in (0, 5)
    assert all(not one[3] for one in others)
    assert not torch.equal(leader[3][2], leader[3][4])


def test_a_signal_to_one_stops_all_at_one_step(played: tuple[int, Path]) -> None:
    assert found(played, "signalled") == [(3, "interrupted", ["step-00000003"])] * 2


def test_an_error_of_the_leader_is_raised_everywhere_and_told_once(played: tuple[int, Path]) -> None:
    leader, other = found(played, "failing")
    assert [kind for kind, _, _ in leader] == ["ConfigError", "ConfigError", "ModelError"]
    assert [e[:2] for e in leader] == [e[:2] for e in other]
    assert [e[2] for e in leader] == [False] * 3
    assert [e[2] for e in other] == [True] * 3


def test_running_statistics_stay_equal_and_it_is_said_once_that_they_are_not_of_the_whole_batch(
    played: tuple[int, Path],
) -> None:
    (mean, var, said), (other_mean, other_var, other_said) = found(played, "statistics")
    assert torch.equal(mean, other_mean)
    assert torch.equal(var, other_var)
    assert (said, other_said) == (1, 0)


def test_the_log_tells_of_the_whole_batch(played: tuple[int, Path], tmp_path: Path) -> None:
    train("barlow", tmp_path)
    text = found(played, "logged")[0]
    assert all(other == text for other in found(played, "logged"))
    one, many = (
        [json.loads(line) for line in t.splitlines()] for t in ((tmp_path / "metrics.jsonl").read_text(), text)
    )
    assert [r.keys() for r in one] == [r.keys() for r in many]
    for a, b in zip(one, many):
        for name in ("loss", "loss/decorrelate", "grad_norm", "alignment", "effective_rank", "accuracy", "uniformity"):
            assert b[name] == pytest.approx(a[name], rel=1e-4), name


# --- what is refused -----------------------------------------------------------------------------------------------


def test_a_loader_without_shares_and_a_batch_too_small_are_refused() -> None:
    loader = Shares()
    share(loader, 0, 1, 11)
    with pytest.raises(ConfigError, match="Shares does not give process 1 of 2 its share"):
        share(loader, 1, 2, 11)
    loader.rank, loader.world = 1, 2
    share(loader, 1, 2, 11)
    with pytest.raises(ConfigError, match="A batch of 1 rows cannot be shared by 2"):
        share(loader, 1, 2, 1)


@pytest.mark.parametrize("changes", [{"parallel": "tensor"}, {"transport": "post"}])
def test_unknown_words_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"type (parallel|transport)="):
        TrainConfig(**changes)


# --- parts ---------------------------------------------------------------------------------------------------------


def test_a_team_of_one_decides_for_itself(tmp_path: Path) -> None:
    team = Team()
    assert team.leads
    kept = object()
    assert team.first(lambda: kept) is kept
    assert team.summed(1, 2.5) == [1, 2.5]
    assert team.averaged({"a": 3.0}) == {"a": 3.0}
    with team.copied(tmp_path) as folder:
        assert folder == tmp_path


def test_blocks_are_what_lists_hold_inner_ones_first() -> None:
    inner = nn.ModuleList(nn.Linear(2, 2) for _ in range(2))
    stage = nn.Sequential(nn.Identity(), nn.Linear(2, 2))
    stage.layers = inner
    single, nothing = nn.ModuleList([nn.Linear(2, 2)]), nn.ModuleList([nn.ReLU(), nn.ReLU()])
    module = nn.ModuleDict({"stages": nn.ModuleList([stage, nn.Linear(2, 2)]), "single": single, "nothing": nothing})
    got = blocks(module)
    assert {id(m) for m in got} == {id(m) for m in (stage, *inner, module["stages"][1])}
    assert max(got.index(m) for m in inner) < got.index(stage)


def test_a_method_on_one_process_is_trained_as_it_is() -> None:
    method = Spread("teacher")
    from counterpoint.train.parallel import spread as spread_method

    with spread_method(method, settings(), torch.device("cpu")) as learner:
        assert learner.method is method
        assert all(learner.weights[n] is p for n, p in method.named_parameters() if p.requires_grad)
