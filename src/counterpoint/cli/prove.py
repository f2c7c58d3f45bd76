"""`counterpoint prove`: does a method's mechanism beat its own ablation?"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

Methods = Annotated[Positional[tuple[str, ...]], arg(metavar="METHOD...", help_behavior_hint="")]


def prove(
    methods: Methods = (),
    /,
    *,
    seeds: int = 3,
    smoke: bool = False,
    all: bool = False,
    full: bool = False,
    out: Path = Path("evidence"),
) -> int:
    """Train a method and its ablations on the same real data: is its claim shown, not shown or reversed?

    Every finished run is kept in runs/prove, so that the same command goes on after Ctrl-C. Exit code: 0, whatever the
    verdict; 2 where data is missing.

    Example: counterpoint prove --all --full

    Args:
        methods: which methods (`counterpoint methods` lists them).
        seeds: how many seeds every arm is trained with.
        smoke: a few steps with one seed, to see that it runs; no evidence is written.
        all: every method that has a proof.
        full: run nothing; tell what each proof claims and compares, how long it takes, and the published scale.
        out: the folder that receives METHOD.json and METHOD.svg.
    """
    from counterpoint.errors import ConfigError, DataError, visible
    from counterpoint.terminal import say
    from counterpoint.workflow import prove as work

    if all == bool(methods):
        raise ConfigError("Name the methods to prove, or give --all alone. For instance: counterpoint prove directpred")
    found = work.proofs() if all else {name: work.proof_of(name) for name in methods}
    code = 0
    for name, proof in found.items():
        if proof is None:
            say(f"{name}: no proof yet.")
        elif full:
            say(described(name))
        else:
            try:
                if smoke:
                    work.smoke(name)
                else:
                    work.prove(name, seeds=seeds, out=out)
            except DataError as error:  # the next method may read other data
                print(f"counterpoint: {name}: {visible(str(error))}", file=sys.stderr)
                code = 2
    return code


def described(name: str) -> str:
    """A proof in words."""
    from counterpoint.workflow.prove import proof_of

    proof = proof_of(name)
    arms = [f"    {arm}: {what}" for arm, what in proof.arms.items()]
    first, *others = proof.metrics
    lines = [
        f"{name}: {proof.claim}",
        "  Arms, the method first:",
        *arms,
        f"  Decided by {first}; also measured: {', '.join(others) or 'nothing else'}.",
        f"  Data: {', '.join(proof.data)}. About {proof.minutes:g} minutes on two cores.",
        f"  Published scale: {proof.full}",
    ]
    return "\n".join(lines)
