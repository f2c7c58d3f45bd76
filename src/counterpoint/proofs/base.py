"""What a proof of a method is: arms that differ in one mechanism, measured on the same real data, steps and seeds."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass, replace
from functools import cache
from typing import Any, Protocol

from counterpoint.data.loader import Loader
from counterpoint.data.rowset import Made
from counterpoint.data.sampler import Sampler, Shuffled
from counterpoint.data.schema import Row, RowSet
from counterpoint.methods.base import Method
from counterpoint.train.config import TrainConfig
from counterpoint.train.loop import Trainer


class Run(Protocol):
    def __call__(self, arm: str, seed: int, *, smoke: bool) -> dict[str, float]:
        """Train one arm with one seed and measure it: a figure for every metric of the proof.

        Everything but what the arm is about is the same for every arm: data, order, first weights, steps, budget.
        smoke: a few steps on a little of the data, at most about ten seconds; only that it runs is looked at.
        """
        ...


@dataclass(frozen=True)
class Proof:
    """The smallest honest experiment in which a method's mechanism must beat its own ablation.

    A module ``proofs/FAMILY/NAME.py`` holds one, under the name ``proof``. method: the class that it is about. claim:
    one sentence that could turn out false. arms: what is trained, by name -> what it is in a few words; the method
    first, its ablations after it. metrics: name -> whether higher is better; the first decides the verdict. data:
    registered sets it reads. run: trains and measures one arm. full: the published scale, in a sentence. minutes: about
    how long all arms and three seeds take on two cores. against: the ablations that the claim is about, none meaning
    all; the others are reported beside.
    """

    method: type[Method]
    _: KW_ONLY
    claim: str
    arms: Mapping[str, str]
    metrics: Mapping[str, bool]
    data: tuple[str, ...]
    run: Run
    full: str
    minutes: float
    against: tuple[str, ...] = ()


def train(
    learner: Method,
    rows: RowSet | list[Row],
    *,
    seed: int,
    recipe: TrainConfig | None = None,
    batch: int | None = None,
    epochs: float | None = None,
    steps: int | None = None,
    lr: float | None = None,
    weight_decay: float | None = None,
    eval_every: int | None = None,
    stop_on_collapse: bool | None = None,
    sampler: Sampler | None = None,
    evaluate: Callable[[Any], Mapping[str, float]] | None = None,
) -> None:
    """Train one arm of a proof as every other: on the CPU, silently, with nothing written.

    learner: the method, trained in place. rows: what it learns from. seed: of the order, the views and dropout; the
    first weights are drawn before, after `torch.manual_seed`. recipe: the settings to begin with (None: the defaults of
    `TrainConfig`), of which those that are given here, each described there, take the place: batch, epochs, steps, lr,
    weight_decay, eval_every, stop_on_collapse. sampler: the batches (None: those that the method asks for, else rows in
    random order). evaluate: called with the method every ``eval_every`` steps and at the end.
    """
    asked = {
        "batch": batch,
        "epochs": epochs,
        "steps": steps,
        "lr": lr,
        "weight_decay": weight_decay,
        "eval_every": eval_every,
        "stop_on_collapse": stop_on_collapse,
    }
    given: dict[str, Any] = {name: value for name, value in asked.items() if value is not None}
    config = replace(recipe or TrainConfig(), seed=seed, progress=False, device="cpu", **given)
    data = Made(rows) if isinstance(rows, list) else rows
    if sampler is None:
        sampler = learner.sampler(data, config)
    if sampler is None:
        sampler = Shuffled(len(data), config.batch, seed=seed)
    Trainer(learner, Loader(data, sampler), config, evaluate=evaluate).fit()


@cache
def discover() -> dict[str, Proof]:
    """Every proof of the library by the name of its method, found by importing the modules of this package."""
    import counterpoint.proofs as package

    modules = pkgutil.walk_packages(package.__path__, package.__name__ + ".")
    found = (getattr(importlib.import_module(info.name), "proof", None) for info in modules)
    return {proof.method.spec.name: proof for proof in found if isinstance(proof, Proof)}
