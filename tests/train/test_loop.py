from __future__ import annotations

import copy
import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from counterpoint.errors import CollapseError, ConfigError, DivergedError, ModelError
from counterpoint.train import checkpoint
from counterpoint.train.config import TrainConfig
from counterpoint.train.loop import Trainer
from counterpoint.train.optim import build_optimizer, sam_gradient, set_lr
from counterpoint.train.schedule import lr_factor
from tests.train.tiny import ROWS, Loader, Tiny, same_weights, spread


def settings(**changes: Any) -> TrainConfig:
    base: dict[str, Any] = {
        "batch": 8,
        "steps": 12,
        "lr": 0.05,
        "device": "cpu",
        "progress": False,
        "tensorboard": False,
    }
    return TrainConfig(**{**base, **changes})


def trained(config: TrainConfig | None = None, method: Tiny | None = None, **arguments: Any) -> Tiny:
    method = method or Tiny()
    Trainer(method, Loader(), config or settings(), **arguments).fit()
    return method


def records(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def by_hand(config: TrainConfig) -> Tiny:
    """The same run written out: batches in order, one optimiser, no thread, no trainer."""
    method, rows = Tiny(), iter(Loader())
    torch.manual_seed(config.seed)
    method.train()
    optimizer = build_optimizer(method, config)
    parameters = [p for p in method.parameters() if p.requires_grad]
    for step in range(1, config.steps + 1):
        set_lr(optimizer, lr_factor(step - 1, config.steps, config))
        batches = [
            method.views(next(rows), np.random.default_rng((config.seed, step, k))) for k in range(config.accumulate)
        ]

        def gradient(batches: list[Any] = batches) -> Tensor:
            total = torch.stack([torch.stack(list(method.losses(b).values())).sum() for b in batches]).mean()
            total.backward()
            return total

        if config.sam:
            sam_gradient(parameters, gradient, rho=config.sam)
        else:
            optimizer.zero_grad()
            gradient()
        if config.clip:
            torch.nn.utils.clip_grad_norm_(parameters, config.clip)
        optimizer.step()
        method.after_step(step)
    return method


@pytest.mark.filterwarnings("ignore:accumulate")
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"clip": 0.05},
        {"clip": 0.0, "optimizer": "sgd"},
        {"accumulate": 3},
        {"sam": 0.05},
        {"schedule": "linear", "warmup": 4, "optimizer": "lars", "lr": 1.0},
        {"groups": {"log_scale": 0.0, r"encoder\.3": 0.1}},
    ],
    ids=str,
)
def test_equals_the_run_written_out(changes: dict[str, Any]) -> None:
    config = settings(**changes)
    actual, expected = trained(config).state_dict(), by_hand(config).state_dict()
    for name, value in expected.items():
        torch.testing.assert_close(actual[name], value, atol=2e-6, rtol=1e-5, msg=lambda m, name=name: f"{name}: {m}")


@pytest.mark.parametrize("changes", [{"prefetch": False}, {"log_every": 1}, {"eval_every": 3}], ids=str)
def test_what_only_watches_changes_no_bit(changes: dict[str, Any], tmp_path: Path) -> None:
    plain = trained(evaluate=spread)
    watched = trained(settings(**changes), evaluate=spread, folder=tmp_path)
    assert same_weights(plain.state_dict(), watched.state_dict())


def test_another_seed_gives_other_weights() -> None:
    assert same_weights(trained().state_dict(), trained().state_dict())
    assert not same_weights(trained().state_dict(), trained(settings(seed=1)).state_dict())


def test_gradient_caching_gives_the_same_run() -> None:
    whole, cached = trained(method=Tiny(0.0)), trained(settings(micro_batch=3), method=Tiny(0.0))
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(cached.state_dict()[name], value, atol=1e-5, rtol=1e-4)


def test_bfloat16_keeps_weights_and_losses_in_float32() -> None:
    method, inside, losses = Tiny(), set(), set()
    method.encoder[0].register_forward_hook(lambda m, i, output: inside.add(output.dtype))
    plain = method.losses

    def watched(batch: Any) -> dict[str, Tensor]:
        out = plain(batch)
        losses.update(v.dtype for v in out.values())
        return out

    method.losses = watched
    trained(settings(precision="bfloat16"), method=method)
    assert inside == {torch.bfloat16}
    assert losses == {torch.float32}
    assert {p.dtype for p in method.parameters()} == {torch.float32}


def test_average_is_what_is_evaluated_and_kept() -> None:
    """Decay ramps as (1 + step) / (10 + step); recomputed from the weights of every step."""
    weights: list[Tensor] = []

    class Recorded(Tiny):
        def after_step(self, step: int) -> None:
            super().after_step(step)
            weights.append(self.encoder[3].weight.detach().clone())

    seen: list[Tensor] = []

    def evaluate(method: Tiny) -> dict[str, float]:
        seen.append(method.encoder[3].weight.detach().clone())
        return {"x": 0.0}

    method = Recorded()
    expected = method.encoder[3].weight.detach().clone()
    trained(settings(ema=0.5), method=method, evaluate=evaluate)
    for step, weight in enumerate(weights, 1):
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * weight
    torch.testing.assert_close(method.encoder[3].weight.detach(), expected)
    assert torch.equal(seen[-1], method.encoder[3].weight)
    assert not torch.equal(weights[-1], expected)
    assert not method.training


def test_averaging_leaves_the_training_itself_alone() -> None:
    plain, averaged = trained(), Tiny()
    trainer = Trainer(averaged, Loader(), settings(ema=0.9, eval_every=2), evaluate=spread)
    trainer.fit()
    assert same_weights(dict(plain.teacher.state_dict()), dict(averaged.teacher.state_dict()))


# --- what is logged -------------------------------------------------------------------------------------------


def test_every_logged_step_tells_everything(tmp_path: Path) -> None:
    trained(settings(log_every=5, eval_every=6), evaluate=spread, folder=tmp_path, extra={"method": "tiny"})
    found = records(tmp_path)
    assert [r["step"] for r in found] == [1, 5, 6, 10, 12]
    full = {"step", "epoch", "loss", "loss/rank", "loss/scale", "lr", "grad_norm", "rows_per_s", "seconds"}
    full |= {"alignment", "uniformity", "effective_rank", "random_cosine", "accuracy", "temperature"}
    assert set(found[0]) == full
    assert set(found[2]) == {"step", "epoch", "eval/spread", "eval/norm"}
    assert set(found[4]) == full | {"eval/spread", "eval/norm"}
    assert found[1]["loss"] == pytest.approx(found[1]["loss/rank"] + found[1]["loss/scale"])
    assert found[1]["lr"] == pytest.approx(0.05 * lr_factor(4, 12, settings()))
    assert found[1]["epoch"] == 1.0
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["method"] == "tiny"
    assert config["train"]["lr"] == 0.05


def test_steps_from_epochs() -> None:
    assert Trainer(Tiny(), Loader(), settings(steps=None, epochs=2.5)).steps == 12
    with pytest.warns(UserWarning, match="compared with the rows of its own batch of 8 only"):
        assert Trainer(Tiny(), Loader(), settings(steps=None, epochs=2, accumulate=2)).steps == 5
    stream = Loader()
    stream.steps_per_epoch = None
    with pytest.raises(ConfigError, match="--steps"):
        Trainer(Tiny(), stream, settings(steps=None))


# --- the best ---------------------------------------------------------------------------------------------------


def scripted(values: list[float], weights: list[dict[str, Tensor]]) -> Any:
    """An evaluation that gives these values in turn and remembers the weights it was shown."""
    turn: Iterator[float] = iter(values)

    def evaluate(method: Tiny) -> dict[str, float]:
        weights.append(copy.deepcopy(method.state_dict()))
        return {"score": next(turn), "other": 1.0}

    return evaluate


@pytest.mark.parametrize("on_disk", [True, False])
@pytest.mark.parametrize("ema", [0.0, 0.5])
def test_early_stopping_keeps_the_best(tmp_path: Path, on_disk: bool, ema: float) -> None:
    shown: list[dict[str, Tensor]] = []
    config = settings(steps=30, eval_every=2, metric="score", patience=3, ema=ema)
    method = Tiny()
    values = [0.1, 0.3, float("nan"), 0.5, 0.5, 0.4, 0.45, 0.9]  # the first before any step; 0.9 comes too late
    result = Trainer(
        method, Loader(), config, folder=tmp_path if on_disk else None, evaluate=scripted(values, shown)
    ).fit()
    assert result.stopped == "early"
    assert result.steps == 12
    assert result.best == {"step": 6, "value": 0.5, "metrics": {"score": 0.5, "other": 1.0}}
    assert result.metrics["score"] == 0.5
    assert same_weights(method.state_dict(), shown[3])
    if on_disk:
        assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == ["best-00000006", "step-00000012"]


def test_lower_can_be_better() -> None:
    shown: list[dict[str, Tensor]] = []
    config = settings(steps=6, eval_every=2, metric="score", higher_is_better=False)
    result = Trainer(Tiny(), Loader(), config, evaluate=scripted([3.0, 2.0, 1.0, 2.0], shown)).fit()
    assert result.best is not None
    assert result.best["step"] == 4


def test_unknown_metric_is_said_before_the_first_step() -> None:
    method = Tiny()
    before = copy.deepcopy(method.state_dict())
    with pytest.raises(ConfigError, match=r"no figure 'mrr'\. Set metric to one of: spread, norm"):
        trained(settings(metric="mrr"), method=method, evaluate=spread)
    assert same_weights(before, method.state_dict())


# --- what goes wrong --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefetch", [True, False])
def test_errors_of_views_and_loader_come_through(prefetch: bool) -> None:
    method = Tiny()

    def views(rows: Any, rng: np.random.Generator) -> Any:
        raise KeyError("no column 'x'")

    method.views = views
    with pytest.raises(KeyError, match="no column"):
        trained(settings(prefetch=prefetch), method=method)


def test_loss_that_is_not_finite_stops_before_the_weights_are_spoiled(tmp_path: Path) -> None:
    class Broken(Tiny):
        def losses(self, batch: Any) -> dict[str, Tensor]:
            out = super().losses(batch)
            if self.done == 7:
                out["scale"] = out["scale"] * float("nan")
            return out

        def after_step(self, step: int) -> None:
            super().after_step(step)
            self.done = step

    method = Broken()
    method.done = 0
    with pytest.raises(DivergedError, match="loss part 'scale' is nan at step 8"):
        trained(settings(save_every=3), method=method, folder=tmp_path)
    assert all(v.isfinite().all() for v in method.state_dict().values())
    found = checkpoint.newest(tmp_path / "checkpoints")
    assert found is not None
    assert found.state["step"] == 6


class Collapsing(Tiny):
    def losses(self, batch: Any) -> dict[str, Tensor]:
        out = super().losses(batch)
        self.observed["anchor"] = torch.ones(8, 4)
        return out


def test_collapse_stops_after_fifty_steps_and_leaves_a_valid_run(tmp_path: Path) -> None:
    with pytest.raises(CollapseError, match=r"for 50 steps up to step 50, different rows have a mean cosine of 1\.000"):
        trained(settings(steps=80), method=Collapsing(), folder=tmp_path)
    found = checkpoint.newest(tmp_path / "checkpoints")
    assert found is not None
    assert found.state["step"] == found.state["collapsed"] == 50


def test_collapse_warns_once_where_it_may_go_on() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = Trainer(Collapsing(), Loader(), settings(steps=80, stop_on_collapse=False)).fit()
    assert result.steps == 80
    assert sum("collapsed" in str(w.message) for w in caught) == 1


def test_a_run_is_not_overwritten_by_accident(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    trained(settings(steps=3), folder=tmp_path)
    with pytest.raises(ConfigError, match=r"already holds a run.*--resume.*--overwrite"):
        Trainer(Tiny(), Loader(), settings(), folder=tmp_path)
    with pytest.raises(ConfigError, match="contradict"):
        Trainer(Tiny(), Loader(), settings(), folder=tmp_path, resume=True, overwrite=True)
    trained(settings(steps=2), folder=tmp_path, overwrite=True)
    assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == ["step-00000002"]
    assert [r["step"] for r in records(tmp_path)] == [1, 2]
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_full_disk_warns_on_the_way_and_fails_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save, written = checkpoint.save_file, []

    def full_after_one(tensors: Any, path: Path) -> None:
        if not path.parent.name.startswith(".step-00000004."):
            raise OSError(28, "No space left on device")
        written.append(path)
        save(tensors, path)

    monkeypatch.setattr(checkpoint, "save_file", full_after_one)
    with (
        pytest.warns(UserWarning, match="step-00000008 could not be written: the disk is full"),
        pytest.raises(ModelError, match="step-00000012 could not be written: the disk is full"),
    ):
        trained(settings(save_every=4), folder=tmp_path)
    assert written
    found = checkpoint.newest(tmp_path / "checkpoints")
    assert found is not None
    assert found.state["step"] == 4


def test_best_that_cannot_be_written_is_kept_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save, shown = checkpoint.save, []

    def full_for_best(path: Path, *arguments: Any) -> None:
        if path.name.startswith("best"):
            raise ModelError("the disk is full")
        save(path, *arguments)

    monkeypatch.setattr(checkpoint, "save", full_for_best)
    method = Tiny()
    config = settings(steps=6, eval_every=2, metric="score")
    with pytest.warns(UserWarning, match="disk is full"):
        trained(config, method=method, folder=tmp_path, evaluate=scripted([0.0, 0.9, 0.1, 0.2], shown))
    assert same_weights(method.state_dict(), shown[1])


@pytest.mark.parametrize(
    ("changes", "evaluates", "message"),
    [
        ({"patience": 2}, True, "patience counts"),
        ({"patience": 2, "metric": "spread", "eval_every": 1}, False, "patience counts"),
        ({"batch": 0}, True, "batch=0"),
        ({"epochs": 0.0}, True, "epochs=0"),
        ({"ema": 1.0}, True, "ema=1"),
        ({"precision": "half"}, True, "precision='half'"),
    ],
)
def test_settings_that_cannot_work(changes: dict[str, Any], evaluates: bool, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Trainer(Tiny(), Loader(), settings(**changes), evaluate=spread if evaluates else None)


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"metric": "spread"}, "nothing to evaluate on"), ({"save_every": 5}, "no run folder")],
)
def test_settings_without_effect_warn(changes: dict[str, Any], message: str) -> None:
    with pytest.warns(UserWarning, match=message):
        Trainer(Tiny(), Loader(), settings(**changes))


def test_every_row_is_shown_once_per_epoch_and_nothing_is_drawn_beyond_the_end() -> None:
    loader = Loader()
    Trainer(Tiny(), loader, settings(steps=10)).fit()
    assert len(loader.shown) == 10
    for epoch in (loader.shown[:5], loader.shown[5:]):
        assert sorted(row for batch in epoch for row in batch) == [r["row"] for r in ROWS]


def test_the_logged_loss_of_sam_is_that_of_the_weights_not_of_their_worst_neighbour(tmp_path: Path) -> None:
    trained(settings(steps=1), folder=tmp_path / "plain")
    trained(settings(steps=1, sam=2.0), folder=tmp_path / "sam")
    assert records(tmp_path / "plain")[0]["loss"] == records(tmp_path / "sam")[0]["loss"]
