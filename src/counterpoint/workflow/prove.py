"""`prove`: a method beside its ablations on the same data, steps and seeds; what came out is the evidence."""

from __future__ import annotations

import contextlib
import math
import re
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from counterpoint.data.sets import registry
from counterpoint.encoders.border import read_json
from counterpoint.errors import ConfigError, ModelError
from counterpoint.evaluate.intervals import over_runs
from counterpoint.files import write_json
from counterpoint.methods.base import discover, find
from counterpoint.proofs import base
from counterpoint.proofs.base import Proof
from counterpoint.report import evidence as shown
from counterpoint.terminal import sentences
from counterpoint.workflow import provenance

Say = Callable[[Any], None]
KEPT = Path("runs/prove")


@dataclass(frozen=True)
class Made:
    """What one run of a proof gave. figures: by metric. seconds: wall time."""

    arm: str
    seed: int
    figures: dict[str, float]
    seconds: float


def proofs() -> dict[str, Proof | None]:
    """Every method, with its proof where it has one."""
    return {name: base.discover().get(name) for name in discover()}


def proof_of(name: str) -> Proof:
    """The proof of a method. Raises `ConfigError` where there is no such method, and where it has no proof yet."""
    find(name)
    every = proofs()
    found = every[name]
    if found is None:
        there = ", ".join(n for n, p in every.items() if p)
        raise ConfigError(f"The method {name} has no proof yet. Type one of: {there}.")
    return found


def check_data(proof: Proof) -> None:
    """Refuse, before anything is trained, where a set is missing: the `DataError` says where to get it."""
    for name in proof.data:
        if registry.find(name).local is None:
            registry.load(name)


def prove(
    name: str, *, seeds: int = 3, out: Path | str = "evidence", kept: Path | str = KEPT, say: Say | None = None
) -> dict[str, Any]:
    """Run every arm of a method's proof with every seed, and write what came out: ``OUT/NAME.json`` and ``.svg``.

    name: of the method. seeds: how many; they are 0, 1, ... kept: each result is written there at once, and a later
    call takes it from there as long as the code that made it, the machine and torch are the same. say: receives what
    there is to tell.

    Raises `ConfigError` for a method that is not there or has no proof, `DataError` where its data is missing.
    """
    if seeds < 1:
        raise ConfigError(f"--seeds {seeds}: give at least 1; a verdict needs 2 or more.")
    say = say or sentences().print
    proof = proof_of(name)
    check_data(proof)
    files = provenance.sources(proof.run.__module__, proof.method.__module__)
    store = Store(Path(kept) / name, {"code": provenance.fingerprint(files), "hardware": provenance.hardware()})
    commit = provenance.commit(files)  # now: while the runs go on, the tree may change
    made = run_all(proof, name, range(seeds), store, say)
    metrics = weigh(proof, made)
    evidence = {
        "method": name,
        "verdict": verdict(proof, metrics),
        "claim": proof.claim,
        "metrics": metrics,
        "wall_seconds": round(sum(m.seconds for m in made), 1),
        "hardware": provenance.hardware(),
        "data": [registry.find(d).edition for d in proof.data],
        "commit": commit,
        "command": f"counterpoint prove {name} --seeds {seeds}",
    }
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / f"{name}.json", evidence)
    figures = {arm: [m.figures for m in made if m.arm == arm] for arm in proof.arms}
    (out / f"{name}.svg").write_text(shown.svg(evidence, figures), encoding="utf-8")
    say(shown.table(evidence))
    say(shown.few(seeds))
    say(f"{name}: {evidence['verdict']}. {proof.claim}")
    say(f"Written: {out / name}.json, {out / name}.svg")
    return evidence


def smoke(name: str, *, say: Say | None = None) -> list[Made]:
    """A few steps of every arm of a method's proof, with one seed: that it runs. Nothing is kept or written."""
    say = say or sentences().print
    proof = proof_of(name)
    check_data(proof)
    return run_all(proof, name, range(1), None, say)


# --- the runs --------------------------------------------------------------------------------------------------


class Store:
    """Results of one method's runs on disk, one file each. setting: what a result must have been made with to count."""

    def __init__(self, folder: Path, setting: Mapping[str, str]) -> None:
        self.folder, self.setting = folder, {**setting, "torch": torch.__version__}

    def _path(self, arm: str, seed: int) -> Path:
        return self.folder / f"{re.sub(r'[^-.=+a-zA-Z0-9]+', '_', arm)}-{seed}.json"

    def get(self, arm: str, seed: int) -> Made | None:
        """What this run gave before, where it was the same run."""
        path = self._path(arm, seed)
        try:
            held = read_json(path) if path.exists() else None
        except ModelError:  # damaged: it is run again
            return None
        if not held or held["setting"] != self.setting or (held["arm"], held["seed"]) != (arm, seed):
            return None
        return Made(**{k: v for k, v in held.items() if k != "setting"})

    def put(self, made: Made) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(self._path(made.arm, made.seed), {**asdict(made), "setting": self.setting})


def run_all(proof: Proof, name: str, seeds: Sequence[int], store: Store | None, say: Say) -> list[Made]:
    """Every arm with the first seed, then with the next, and so on; those in the store are not run again.

    store: None: a smoke run, of which nothing is kept. Raises `KeyboardInterrupt` on Ctrl-C, also where training took
    it for a wish to stop and save.
    """
    made: list[Made] = []
    every = [(arm, seed) for seed in seeds for arm in proof.arms]
    for arm, seed in every:
        found = store.get(arm, seed) if store else None
        how = "as kept" if found else ""
        if found is None:
            start = time.perf_counter()
            try:
                figures = uninterrupted(partial(proof.run, arm, seed, smoke=store is None))
            except KeyboardInterrupt:
                if store:
                    say(f"{len(made)} of {len(every)} runs are kept; the same command goes on from there.")
                raise
            found = Made(arm, seed, checked(figures, proof, arm, seed), round(time.perf_counter() - start, 2))
            how = f"{found.seconds:.1f} s"
            if store:
                store.put(found)
        made.append(found)
        said = ", ".join(f"{metric} {shown.number(found.figures[metric])}" for metric in proof.metrics)
        say(f"{name}, seed {seed}, {arm}: {said} ({how})")
    return made


def checked(figures: Mapping[str, float], proof: Proof, arm: str, seed: int) -> dict[str, float]:
    """The figures of the proof's metrics, every one of which must be there and finite."""
    lacking = [m for m in proof.metrics if not math.isfinite(figures.get(m, math.nan))]
    if lacking:
        raise ConfigError(
            f"The arm {arm!r} gave no finite figure for {', '.join(lacking)} with seed {seed}; it gave {dict(figures)}."
        )
    return {metric: float(figures[metric]) for metric in proof.metrics}


def uninterrupted(run: Callable[[], dict[str, float]]) -> dict[str, float]:
    """What it returns, unless somebody wanted it to stop: then `KeyboardInterrupt`."""
    with interruptions() as came:
        figures = run()
    if {signal.SIGINT, signal.SIGTERM} & set(came):
        raise KeyboardInterrupt
    return figures


@contextmanager
def interruptions() -> Iterator[bytearray]:
    """Receives, at its end, the numbers of the signals that came meanwhile, whoever's handler answered them.

    Training finishes its step on Ctrl-C and returns what it has so far, which here would count as a whole run.
    """
    came = bytearray()
    if threading.current_thread() is not threading.main_thread():  # which alone hears of signals
        yield came
        return
    heard, told = socket.socketpair()
    with heard, told:
        heard.setblocking(False)
        told.setblocking(False)
        before = signal.set_wakeup_fd(told.fileno(), warn_on_full_buffer=False)
        try:
            yield came
        finally:
            signal.set_wakeup_fd(before)
            with contextlib.suppress(BlockingIOError):  # no signal came
                came += heard.recv(4096)


# --- what they say ---------------------------------------------------------------------------------------------


def weigh(proof: Proof, made: Sequence[Made]) -> list[dict[str, Any]]:
    """An entry per metric and ablation: means over the seeds, and the method's mean paired difference with its 95 %
    interval (None with one seed)."""
    method, *ablations = proof.arms
    values = {
        (arm, metric): [m.figures[metric] for m in sorted(made, key=lambda m: m.seed) if m.arm == arm]
        for arm in proof.arms
        for metric in proof.metrics
    }
    out = []
    for metric, higher in proof.metrics.items():
        ours = values[method, metric]
        for ablation in ablations:
            theirs = values[ablation, metric]
            apart = over_runs([a - b for a, b in zip(ours, theirs, strict=True)])
            entry = {
                "name": metric,
                "ablation": ablation,
                "higher_is_better": higher,
                "method_mean": math.fsum(ours) / len(ours),
                "ablation_mean": math.fsum(theirs) / len(theirs),
                "diff": apart.value,
                "ci95": [apart.low, apart.high] if math.isfinite(apart.low) else None,
                "seeds": len(ours),
            }
            out.append(entry)
    return out


def verdict(proof: Proof, metrics: Sequence[Mapping[str, Any]]) -> str:
    """``shown``: by the first metric the method beats every ablation that the claim is about; ``reversed``: one of them
    beats the method; ``not shown``: neither. An interval that holds 0 decides nothing."""
    first = next(iter(proof.metrics))
    about = proof.against or tuple(proof.arms)[1:]
    says = [shown.says(entry) for entry in metrics if entry["name"] == first and entry["ablation"] in about]
    if "worse" in says:
        return "reversed"
    return "shown" if set(says) == {"better"} else "not shown"
