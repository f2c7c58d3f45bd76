"""What a proof of a method is: arms that differ in one mechanism, measured on the same real data, steps and seeds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol


class Run(Protocol):
    def __call__(self, arm: str, seed: int, *, smoke: bool) -> dict[str, float]:
        """Train one arm with one seed and measure it: a figure for every metric of the proof.

        Everything but what the arm is about is the same for every arm: data, order, first weights, steps, budget.
        smoke: a few steps on a little of the data, at most about ten seconds; only that it runs is looked at.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class Proof:
    """The smallest honest experiment in which a method's mechanism must beat its own ablation.

    A method's module holds one, under the name ``proof``. claim: one sentence that could turn out false. arms: what is
    trained, by name -> what it is in a few words; the method first, its ablations after it. metrics: name -> whether
    higher is better; the first decides the verdict. against: the ablations that the claim is about, none meaning all;
    the others are reported beside. data: registered sets it reads. full: the published scale, in a sentence. minutes:
    about how long all arms and three seeds take on two cores.
    """

    claim: str
    arms: Mapping[str, str]
    metrics: Mapping[str, bool]
    data: tuple[str, ...]
    run: Run
    full: str
    minutes: float
    against: tuple[str, ...] = ()
