"""What is written by the search, greedily, by a beam and from the nucleus, with one model of dialogues.

Diversity alone is easily had by saying anything, coherence by saying the same again: their product decides.

That it decides, and the number of prefixes, were chosen on seeds from 10 on. There the margin was worth little to the
search, as the later paper says of models that are isotropic as they are: the claim leaves it out, the table shows it.
The model's size and its steps were chosen by the time they take.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import lru_cache

import torch
from datasets import Dataset

from counterpoint.data.rows import Rows
from counterpoint.data.sets.registry import load
from counterpoint.decode.generate import decoder
from counterpoint.encoders.causal import CausalLM
from counterpoint.evaluate import language
from counterpoint.methods.language.contrastive_search import ContrastiveSearch
from counterpoint.proofs.base import Proof, train

PREFIX, NEW, PIECES = 16, 60, 3
"""Tokens that are given, tokens that are written behind them, pieces of each held-out dialogue to begin from."""
WORDS = 30
"""Of the beginnings of these dialogues, on which isotropy and perplexity are measured."""
SHAPE = {"layers": 2, "width": 64, "heads": 2, "vocabulary": 1000, "max_length": 80, "dropout": 0.0}
OUTSIDE = 1000
"""Added to the seed of the model that judges."""
WRITING = {
    "searched": decoder("contrastive", k=5, alpha=0.6),
    "greedy": decoder("contrastive", k=5, alpha=0.0),
    "beam": decoder("beam", width=4),
    "nucleus": decoder("nucleus", p=0.95),
}
ARMS: dict[str, tuple[str, float, str]] = {
    "contrastive search": ("trained with a margin, searched: k 5, alpha 0.6", 0.5, "searched"),
    "greedy": ("the same model, the same search with alpha 0", 0.5, "greedy"),
    "beam": ("the same model, beam search with 4 open continuations", 0.5, "beam"),
    "nucleus": ("the same model, drawn from the nucleus of 0.95", 0.5, "nucleus"),
    "no margin": ("trained without a margin, the same search", 0.0, "searched"),
}


def _texts(split: str) -> list[str]:
    found = load("dialogues", split)
    assert isinstance(found, Dataset)
    return list(found["text"])


@lru_cache(maxsize=3)
def _trained(margin: float, seed: int, smoke: bool) -> CausalLM:
    """A model trained on the dialogues; arms that differ in what they write alone share it."""
    rows = Rows.of_texts(_texts("train")[: 64 if smoke else None])
    recipe = ContrastiveSearch.recipe("smoke" if smoke else "small")
    torch.manual_seed(seed)
    encoder = CausalLM.from_texts(rows.texts(), replace(recipe.encoder, **SHAPE))
    trained = ContrastiveSearch(encoder, replace(recipe.config, margin=margin))
    train(trained, rows, recipe=recipe.train, batch=16, steps=3 if smoke else 600, lr=3e-3, seed=seed)
    return encoder.eval()


@lru_cache(maxsize=4)
def _written(margin: float, how: str, seed: int, smoke: bool) -> tuple[float, float]:
    """Diversity and coherence of continued dialogues, judged by a model of another seed, trained without a margin."""
    model, judge = _trained(margin, seed, smoke), _trained(0.0, seed + OUTSIDE, smoke)
    held = model.prefix(_texts("test")[: 2 if smoke else None])
    starts = range(0, PIECES * (PREFIX + NEW), PREFIX + NEW)
    prefixes = [ids[at : at + PREFIX] for ids in held for at in starts if len(ids) >= at + PREFIX]
    parts = [prefixes[i : i + 100] for i in range(0, len(prefixes), 100)]
    written = [new for part in parts for new in WRITING[how](model, part, max_new=NEW)]
    return language.diversity(written), language.coherence(judge, prefixes, written)


def run(arm: str, seed: int, *, smoke: bool) -> dict[str, float]:
    _, margin, how = ARMS[arm]
    diversity, coherence = _written(margin, how, seed, smoke)
    model = _trained(margin, seed, smoke)
    beginnings = [" ".join(text.split()[:WORDS]) for text in _texts("test")[: 4 if smoke else None]]
    return {
        "diversity x probability": diversity * math.exp(coherence),
        "diversity": diversity,
        "coherence": coherence,
        "isotropy": language.isotropy(model, beginnings),
        "perplexity": language.perplexity(model, beginnings),
    }


proof = Proof(
    ContrastiveSearch,
    claim="Contrastive search writes texts that are diverse and probable at once, more so than greedy decoding, beam "
    "search and the nucleus do with the same model.",
    arms={arm: what for arm, (what, _, _) in ARMS.items()},
    metrics={
        "diversity x probability": True,
        "diversity": True,
        "coherence": True,
        "isotropy": True,
        "perplexity": False,
    },
    against=("greedy", "beam", "nucleus"),
    data=("dialogues",),
    run=run,
    full="GPT-2 small on WikiText-103, 40,000 steps of 128 texts of 256 tokens: hours on one large GPU. Published, of "
    "GPT-2 large as it is: diversity 92.5 and coherence -1.52 (contrastive), 5.4 and -0.58 (greedy), 93.6 and -2.88 "
    "(nucleus).",
    minutes=4,
)
