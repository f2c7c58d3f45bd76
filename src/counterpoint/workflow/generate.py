"""`generate`: texts continued by a language model."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from counterpoint.decode.generate import Continuation, decoder
from counterpoint.decode.generate import generate as continued
from counterpoint.encoders.causal import CausalLM
from counterpoint.errors import DataError
from counterpoint.evaluate.language import ISOTROPIC, isotropy
from counterpoint.workflow.models import language_model


def generate(
    model: Path | str,
    prefixes: str | Sequence[str],
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
) -> list[Continuation]:
    """Continue texts with a causal language model; the function behind ``counterpoint generate``, whose options it has.

    model: a run folder or model folder, a transformers folder, or a hub id. prefixes: the beginnings ("" begins from
    nothing). decode: how tokens are chosen. max_new: tokens behind each prefix, at most. k, alpha: of contrastive
    search, candidates per token and how much being unlike what was said counts. sampled: so many first tokens are
    drawn. p: the probability that the tokens drawn from hold together. temperature: of nucleus sampling. width, length:
    of the beam. seed: of what is drawn.

    Raises `DataError` without a prefix. Warns where a model has no room for so many tokens, and where its states are
    too much alike for contrastive search.

        counterpoint.generate("runs/mine", ["Once upon a time"])[0].text
    """
    given = (prefixes,) if isinstance(prefixes, str) else tuple(prefixes)
    if not given:
        raise DataError(f'There is nothing to continue. Type for instance: counterpoint generate {model} "Once"')
    settings: dict[str, dict[str, Any]] = {
        "contrastive": {"k": k, "alpha": alpha, "sampled": sampled, "p": p, "seed": seed},
        "greedy": {},
        "nucleus": {"p": p, "temperature": temperature, "seed": seed},
        "beam": {"width": width, "length": length},
    }
    lm = language_model(model)
    room = fitting(lm, given, max_new)
    found = continued(lm, given, decoder(decode, **settings[decode]), max_new=room)
    if decode == "contrastive" and alpha:
        check(lm, [one.prefix + one.text for one in found])
    return found


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
