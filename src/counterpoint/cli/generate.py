"""`counterpoint generate`: texts continued by a language model."""

from __future__ import annotations

import json as writer
import warnings
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import Positional, arg

from counterpoint.cli.options import Model

if TYPE_CHECKING:
    from counterpoint.encoders.causal import CausalLM


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

    from counterpoint.decode.generate import decoder
    from counterpoint.decode.generate import generate as run
    from counterpoint.errors import DataError
    from counterpoint.terminal import Console
    from counterpoint.workflow.models import language_model

    if not prefixes:
        raise DataError(f'There is nothing to continue. Type for instance: counterpoint generate {model} "Once"')
    settings: dict[str, dict[str, Any]] = {
        "contrastive": {"k": k, "alpha": alpha, "sampled": sampled, "p": p, "seed": seed},
        "greedy": {},
        "nucleus": {"p": p, "temperature": temperature, "seed": seed},
        "beam": {"width": width, "length": length},
    }
    lm = language_model(model)
    room = fitting(lm, prefixes, max_new)
    found = run(lm, prefixes, decoder(decode, **settings[decode]), max_new=room)
    console = Console(highlight=False)
    for one in found:
        if json:
            print(writer.dumps({"prefix": one.prefix, "text": one.text, "tokens": len(one.tokens), "ended": one.ended}))
            continue
        console.print(Text(one.prefix, style="bold").append(one.text, style="not bold"), soft_wrap=True)
    if decode == "contrastive" and alpha:
        check(lm, [one.prefix + one.text for one in found])


def fitting(lm: CausalLM, prefixes: tuple[str, ...], asked: int) -> int:
    """The tokens that can be written behind every prefix; a sentence where they are fewer than asked for."""
    longest = max(1, *map(len, lm.prefix(prefixes)))
    room = asked if lm.places is None else min(asked, lm.places - longest)
    if 0 < room < asked:
        warnings.warn(
            f"This model has positions for {lm.places} tokens, and the longest prefix takes {longest}: "
            f"{room} new tokens are written instead of {asked}.",
            stacklevel=2,
        )
    return room if room > 0 else asked  # nothing fits: decoding says so


def check(lm: CausalLM, texts: list[str]) -> None:
    """Tell where the states of these texts are too much alike for contrastive search."""
    from counterpoint.errors import DataError
    from counterpoint.evaluate.language import ISOTROPIC, isotropy

    try:
        apart = isotropy(lm, texts)
    except DataError:  # texts of one token
        return
    if apart < ISOTROPIC:
        warnings.warn(
            f"The states of these texts are much alike (isotropy {apart:.2f}, below {ISOTROPIC}), so contrastive "
            "search can hardly tell candidates apart and writes much as greedy decoding does. Train the model with "
            "--method contrastive-search, or take --decode nucleus.",
            stacklevel=2,
        )
