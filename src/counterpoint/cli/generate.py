"""`counterpoint generate`: texts continued by a language model."""

from __future__ import annotations

import json as writer
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from counterpoint.cli.options import Model
from counterpoint.modalities.text import TEXT


def generate(
    model: Model,
    prefixes: Annotated[Positional[tuple[str, ...]], arg(metavar="PREFIX...", help_behavior_hint="")],
    /,
    *,
    decode: Literal["contrastive", "greedy", "nucleus", "beam"] = "contrastive",
    max_new: int = 64,
    k: int = 5,
    alpha: float = 0.6,
    sampled: int = 0,
    p: float = 0.95,
    temperature: float = 1.0,
    width: int = 4,
    length: float = 1.0,
    seed: int = 0,
    json: bool = False,
) -> None:
    """Continue texts with a causal language model: one you trained, or the folder or hub id of another.

    Example: counterpoint generate runs/mine "Once upon a time" --k 5 --alpha 0.6

    Args:
        model: a run folder or model folder of a language model, a transformers folder, or a hub id.
        prefixes: the beginnings of texts, each in quotes; "" begins from nothing.
        decode: contrastive (probable, and unlike what was said), greedy (the most probable token), nucleus (drawn at
            random from the probable ones) or beam (the most probable continuation).
        max_new: tokens to write behind each prefix, at most.
        k: contrastive: candidates per token.
        alpha: contrastive: how much being unlike what was said counts, from 0 (greedy) to 1.
        sampled: contrastive: so many first tokens are drawn at random, which gives another text for every --seed.
        p: nucleus, sampled: the probability that the tokens drawn from hold together.
        temperature: nucleus: below 1 probable tokens are drawn more often, above 1 less often.
        width: beam: continuations kept open.
        length: beam: 0 prefers short texts, 1 judges by the mean over tokens.
        seed: of what is drawn at random.
        json: one JSON object per prefix.
    """
    from rich.text import Text

    from counterpoint.terminal import Console, say
    from counterpoint.workflow.generate import generate as run

    found = run(
        model,
        prefixes,
        decode=decode,
        max_new=max_new,
        k=k,
        alpha=alpha,
        sampled=sampled,
        p=p,
        temperature=temperature,
        width=width,
        length=length,
        seed=seed,
    )
    console = Console(highlight=False)
    for one in found:
        if json:
            said = {"prefix": one.prefix, TEXT: one.text, "tokens": len(one.tokens), "ended": one.ended}
            say(writer.dumps(said, ensure_ascii=False))
            continue
        console.print(Text(one.prefix, style="bold").append(one.text, style="not bold"), soft_wrap=True)
