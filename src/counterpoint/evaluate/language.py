"""Language models and what they write: isotropy, perplexity, repetition, coherence.

Su and Collier 2023, arXiv 2210.14140, which defines all of these as they are here, and asks of a model that its states
be isotropic before its texts are searched for by them.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Sequence
from itertools import islice

import torch
from torch import Tensor
from torch.nn import functional as F

from counterpoint.data.batch import Data, move
from counterpoint.encoders.base import Encoder
from counterpoint.encoders.bulk import buckets
from counterpoint.encoders.causal import CausalLM
from counterpoint.errors import DataError
from counterpoint.objectives.tokens import token_nll

ISOTROPIC = 0.3
"""Below it the states of a text are so alike that contrastive search cannot tell candidates apart by them."""

WINDOW = 1024
"""Texts that are taken from a stream at once."""


def isotropy(encoder: Encoder, texts: Iterable[str], *, budget: int = 8192) -> float:
    """``1 - mean cosine`` of the states of different tokens of one text: 0 where all are alike, about 1 where they
    point anywhere. The mean is over all pairs of tokens of all texts, so that long texts count more.

    encoder: one that gives an embedding for each token, by its last layer; a text is read up to its ``max_length``.
    texts: any number, read as a stream. budget: padded tokens per pass. Raises `DataError` where no text has two
    tokens.

    >>> from counterpoint.encoders.causal import CausalLM
    >>> -1 <= isotropy(CausalLM.example(), ["a cat sat on a mat"]) <= 2
    True
    """
    cosines = pairs = 0.0
    stream = iter(texts)
    with encoder.evaluating():
        while window := list(islice(stream, WINDOW)):
            for data in _passes(encoder, window, budget):
                states, mask = encoder.tokens(data)
                unit = F.normalize(states.double(), dim=-1) * mask.unsqueeze(-1)
                # The sum over all pairs is the square of the sum; less the pairs of a state with itself.
                cosines += float(unit.sum(1).square().sum() - unit.square().sum())
                lengths = mask.sum(1).double()
                pairs += float((lengths * (lengths - 1)).sum())
    if not pairs:
        raise DataError("Isotropy compares the tokens of a text with each other; none of these texts has two.")
    return 1 - cosines / pairs


def perplexity(model: CausalLM, texts: Iterable[str], *, budget: int = 8192) -> float:
    """``exp`` of the mean loss per token, in the model's own tokens; of a long text its first ``max_length`` are read.

    Figures of models with different vocabularies cannot be compared. Raises `DataError` where there is no token to
    predict.

    model: a causal language model. texts: any number. budget: tokens of a forward pass, padding included.

    >>> from counterpoint.encoders.causal import CausalLM
    >>> perplexity(CausalLM.example(), ["a cat sat on a mat"]) > 1
    True
    """
    total = count = 0.0
    stream = iter(texts)
    with model.evaluating():
        while window := list(islice(stream, WINDOW)):
            for index in buckets(model.lengths(window), budget):
                data = move(model.windows([window[i] for i in index]), model.device)
                nll, real = _losses(model, data)
                total, count = total + float(nll.double().sum()), count + int(real.sum())
    if not count:
        raise DataError("There is no token to predict in these texts.")
    return math.exp(total / count)


def coherence(
    model: CausalLM, prefixes: Sequence[Sequence[int]], continuations: Sequence[Sequence[int]], *, batch: int = 32
) -> float:
    """How probable another model finds continuations: the mean over texts of the mean ``log p`` of their new tokens.

    prefixes, continuations: ids of the model's own tokens (``model.prefix(texts)``, ``model.ids(texts)``). Empty
    continuations are left out. The model should be none of those that wrote, as each finds its own texts probable.
    model: a causal language model. batch: texts of a forward pass.

    >>> from counterpoint.encoders.causal import CausalLM
    >>> model = CausalLM.example()
    >>> coherence(model, model.prefix(["a cat"]), model.ids([" sat on a mat"])) < 0
    True
    """
    if len(prefixes) != len(continuations):
        raise DataError(f"{len(prefixes)} prefixes have {len(continuations)} continuations; give one each.")
    both = [([*(p or [model.begin])], list(c)) for p, c in zip(prefixes, continuations) if len(c)]
    if not both:
        raise DataError("All continuations are empty: there is nothing to judge.")
    found: list[float] = []
    with model.evaluating():
        for start in range(0, len(both), batch):
            part = both[start : start + batch]
            data = move(model.padded([p + c for p, c in part]), model.device)
            nll, real = _losses(model, data)
            first = torch.tensor([len(p) - 1 for p, _ in part], device=nll.device).unsqueeze(1)
            new = real & (torch.arange(nll.shape[1], device=nll.device) >= first)
            found += (-(nll * new).double().sum(1) / new.sum(1)).tolist()
    return math.fsum(found) / len(found)


def repetition(texts: Sequence[Sequence[Hashable]], n: int) -> float:
    """rep-n, in percent: the share of the n-grams of a text that it holds already, over all n-grams of all texts.

    What two texts have in common is no repetition. 0: nothing is said twice, or there is no n-gram. (The released code
    leaves out the last n-gram of every text.)

    >>> round(repetition(["a b a b".split()], 2), 1)  # "a b", "b a", "a b": one of three is there already
    33.3
    """
    grams = [[tuple(text[i : i + n]) for i in range(len(text) - n + 1)] for text in texts]
    total = sum(map(len, grams))
    return 100 * (1 - sum(len(set(g)) for g in grams) / total) if total else 0.0


def diversity(texts: Sequence[Sequence[Hashable]]) -> float:
    """``100 (1 - rep-2) (1 - rep-3) (1 - rep-4)``, in percent: 100 where nothing is said twice.

    texts: the tokens of each.

    >>> diversity([[1, 2, 3, 4, 5]]), diversity([[1, 1, 1, 1, 1, 1]]) < 5
    (100.0, True)
    """
    return 100 * math.prod(1 - repetition(texts, n) / 100 for n in (2, 3, 4))


def _losses(model: CausalLM, data: Data) -> tuple[Tensor, Tensor]:
    """The loss of each predicted token ``(N, T - 1)``, and which of them are real."""
    assert not isinstance(data, Tensor)
    ids, mask = data["input_ids"], data["attention_mask"].bool()
    logits, _ = model.predictions(data)
    real = mask[:, 1:]
    nll = token_nll(logits[:, :-1].flatten(0, 1).unsqueeze(1), ids[:, 1:].flatten().unsqueeze(1), reduction="none")
    return nll.view(real.shape) * real, real


def _passes(encoder: Encoder, texts: list[str], budget: int) -> Iterable[Data]:
    for index in buckets(encoder.lengths(texts), budget):
        yield move(encoder.collate([texts[i] for i in index]), encoder.device)
