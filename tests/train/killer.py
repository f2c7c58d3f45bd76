"""Runs that are killed, interrupted and resumed, each in a process of its own forked from this light one.

Command: ``python -m tests.train.killer FOLDER``; writes ``FOLDER/report.json`` for test_resume.py to judge.
"""

from __future__ import annotations

import json
import os
import random
import re
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import torch._dynamo  # every optimiser imports it; once here instead of in every child
from torch import Tensor

from counterpoint.train import checkpoint
from counterpoint.train.config import TrainConfig
from counterpoint.train.loop import Trainer
from tests.train.tiny import Loader, Tiny, spread

CONFIG = TrainConfig(
    batch=8,
    steps=90,
    lr=0.05,
    ema=0.9,
    metric="gap",
    higher_is_better=False,
    eval_every=5,
    patience=4,
    save_every=7,
    log_every=4,
    device="cpu",
    progress=False,
    tensorboard=False,
)


def gap(method: Tiny) -> dict[str, float]:
    """A figure that is best in the middle of the run (the spread rises from 0.2 to 0.95), so that it stops early."""
    return {"gap": abs(spread(method)["spread"] - 0.76)}


class Doomed(Tiny):
    """Calls ``strike`` before step ``at`` is over, in the loss or after the update."""

    def __init__(self, strike: Callable[[], None] = lambda: None, at: int = 0, place: str = "losses") -> None:
        super().__init__()
        self.strike, self.at, self.place, self.step = strike, at, place, 0

    def losses(self, batch: Any) -> dict[str, Tensor]:
        out = super().losses(batch)
        if self.place == "losses" and self.step + 1 == self.at:
            self.strike()
        return out

    def after_step(self, step: int) -> None:
        super().after_step(step)
        self.step = step
        if self.place == "after" and step == self.at:
            self.strike()


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def run(folder: Path, method: Doomed, *, in_save: int = 0) -> None:
    """Train or resume in ``folder``; ``in_save``: die while writing the first checkpoint from that step on."""
    write = checkpoint.save_file

    def write_or_die(tensors: dict[str, Tensor], path: Path) -> None:
        write(tensors, path)
        if in_save and path.name == "optimizer.safetensors" and int(re.findall(r"\d+", path.parent.name)[0]) >= in_save:
            kill()

    checkpoint.save_file = write_or_die
    done = checkpoint.numbered(folder / "checkpoints", "step")
    method.step = checkpoint.number(done[-1]) if done else 0
    result = Trainer(method, Loader(), CONFIG, folder=folder, evaluate=gap, resume=True).fit()
    checkpoint.save(folder / "end", {"method": method.state_dict()}, asdict(result) | {"folder": None})


def forked(work: Callable[[], None]) -> int:
    """Process id of a child that does the work and exits with 0, or 1 after an exception."""
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        return pid
    try:
        work()
        os._exit(0)
    except KeyboardInterrupt:
        os._exit(130)
    except BaseException:
        import traceback

        traceback.print_exc()
        os._exit(1)


def status(pid: int) -> int:
    """Exit code, or minus the signal that killed it."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


def killed(folder: Path, steps: list[int]) -> list[int]:
    """Exit codes of runs killed at these steps, one after the other, and of the last one, which finishes."""
    codes = []
    for step, place in zip(steps, ("losses", "after", "save", "losses", "after")):
        method = Doomed(kill, step, place)
        codes.append(status(forked(lambda m=method, s=step: run(folder, m, in_save=s if m.place == "save" else 0))))
    return [*codes, status(forked(lambda: run(folder, Doomed())))]


def interrupted(folder: Path, number: signal.Signals, at: int) -> dict[str, Any]:
    """A run that gets the signal in the middle of step ``at``, and the run that resumes it."""
    strike = Doomed(lambda: os.kill(os.getpid(), number), at)
    first = status(forked(lambda: run(folder, strike)))
    state = json.loads((folder / "end" / "state.json").read_text())
    return {"codes": [first, status(forked(lambda: run(folder, Doomed())))], "first": state}


def impatient(folder: Path) -> dict[str, Any]:
    """Two Ctrl-C in a step that would take a minute."""
    begun, heard = folder.with_suffix(".begun"), folder.with_suffix(".heard")

    def sleep() -> None:
        waiting = signal.getsignal(signal.SIGINT)
        begun.touch()
        end = time.monotonic() + 60
        while time.monotonic() < end:
            time.sleep(0.01)
            if signal.getsignal(signal.SIGINT) is not waiting:
                heard.touch()

    pid = forked(lambda: run(folder, Doomed(sleep, 8)))
    wait_for(begun.exists)
    os.kill(pid, signal.SIGINT)
    wait_for(heard.exists)  # two signals that wait for a busy machine would be one
    time.sleep(0.1)
    alive = os.waitpid(pid, os.WNOHANG) == (0, 0)
    sent = time.monotonic()
    os.kill(pid, signal.SIGINT)
    return {"alive_after_first": alive, "code": status(pid), "seconds": time.monotonic() - sent}


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # shells start what runs in the background without it
    steps = sorted(random.Random(11).sample(range(2, 45), 5))
    report = {
        "steps": steps,
        "whole": status(forked(lambda: run(folder / "whole", Doomed()))),
        "killed": killed(folder / "killed", steps),
        "int": interrupted(folder / "int", signal.SIGINT, 23),
        "term": interrupted(folder / "term", signal.SIGTERM, 31),
        "impatient": impatient(folder / "impatient"),
    }
    (folder / "report.json").write_text(json.dumps(report))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
