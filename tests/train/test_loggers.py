from __future__ import annotations

import io
import json
import sys
import types
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from counterpoint.errors import MissingExtra
from counterpoint.train import loggers as adapters
from counterpoint.train.config import TrainConfig
from counterpoint.train.loggers import JsonLines, Lines, Live, TensorBoard, describe, loggers


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_json_lines_are_there_at_once_and_are_json(tmp_path: Path) -> None:
    logger = JsonLines(tmp_path / "m.jsonl")
    logger.log({"loss": 1.5, "grad_norm": float("nan"), "x": float("inf")}, 3)
    assert lines(tmp_path / "m.jsonl") == [{"step": 3, "loss": 1.5, "grad_norm": None, "x": None}]
    logger.close()


@pytest.mark.parametrize(("after", "kept"), [(20, [10, 20]), (25, [10, 20]), (0, [])])
def test_json_lines_beyond_the_checkpoint_are_dropped(tmp_path: Path, after: int, kept: list[int]) -> None:
    path = tmp_path / "m.jsonl"
    path.write_text("".join(json.dumps({"step": s}) + "\n" for s in (10, 20, 30)) + '{"step": 4')
    JsonLines(path, after=after).close()
    assert [r["step"] for r in lines(path)] == kept


def test_full_disk_does_not_stop_the_run(tmp_path: Path) -> None:
    logger = JsonLines(tmp_path / "m.jsonl")

    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(28, "No space left on device")

    logger._file = Full()
    with pytest.warns(UserWarning, match="Training goes on"):
        logger.log({"loss": 1.0}, 1)


def test_tensorboard_events_can_be_read_back(tmp_path: Path) -> None:
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    logger = TensorBoard(tmp_path)
    for step in (1, 2, 3):
        logger.log({"loss/rank": 10.0 * step}, step)
    logger.close()
    resumed = TensorBoard(tmp_path, after=2)
    resumed.log({"loss/rank": 5.0}, 4)
    resumed.close()
    events = reader.EventAccumulator(str(tmp_path)).Reload().Scalars("loss/rank")
    assert [(e.step, e.value) for e in events] == [(1, 10.0), (2, 20.0), (4, 5.0)]


def test_wandb_and_mlflow_get_the_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []
    run = types.SimpleNamespace(
        log=lambda values, step: calls.append(("wandb", values, step)), finish=lambda: calls.append("finish")
    )
    wandb = types.SimpleNamespace(init=lambda **settings: (calls.append(settings["config"]), run)[1])
    mlflow = types.SimpleNamespace(
        start_run=lambda run_name: calls.append(run_name),
        log_dict=lambda settings, name: None,
        log_metrics=lambda values, step: calls.append(("mlflow", values, step)),
        end_run=lambda: calls.append("end"),
    )
    monkeypatch.setattr(adapters, "_package", {"wandb": wandb, "mlflow": mlflow}.__getitem__)
    config = TrainConfig(log_to=("wandb", "mlflow"), progress=False)
    made = loggers(config, folder=None, steps=10, step=0, settings={"seed": 1})
    for logger in made:
        logger.log({"eval/mrr@10": 0.5}, 7)
        logger.close()
    assert calls == [
        {"seed": 1},
        None,
        ("wandb", {"eval/mrr@10": 0.5}, 7),
        "finish",
        ("mlflow", {"eval/mrr_at_10": 0.5}, 7),
        "end",
    ]


def test_missing_package_says_what_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    monkeypatch.setattr(adapters.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match="pip install wandb"):
        loggers(TrainConfig(log_to=("wandb",)), folder=None, steps=1, step=0, settings={})


def test_a_log_file_gets_few_lines() -> None:
    out = io.StringIO()
    logger = Lines(Console(file=out), 100, every=1e9)
    for step in range(1, 101):
        logger.log({"loss": 2.0, "eval/mrr@10": 0.5} if step == 50 else {"loss": 2.0}, step)
    assert [line.split()[1] for line in out.getvalue().splitlines()] == ["1/100", "50/100", "100/100"]
    assert "mrr@10 0.5000" in out.getvalue()


def test_a_terminal_gets_a_moving_line_with_parts_speed_and_time_left() -> None:
    out = io.StringIO()
    logger = Live(Console(file=out, force_terminal=True, width=120), 100, 0)
    logger.log({"loss": 2.0, "loss/soft": 1.25, "loss/hard": 0.75, "rows_per_s": 1234.0, "eval/mrr@10": 0.5}, 40)
    logger.close()
    text = out.getvalue()
    assert "40/100" in text
    assert "loss 2.000  (soft 1.250, hard 0.750)" in text
    assert "1,234 rows/s" in text
    assert "mrr@10 0.5000" in text


def test_one_part_is_not_said_twice() -> None:
    assert describe({"loss": 2.0, "loss/rank": 2.0}) == "loss 2.000"
