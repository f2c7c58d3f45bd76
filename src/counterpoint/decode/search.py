"""Contrastive search: a probable next token whose state is unlike every state before it.

Su and Collier 2023, "Contrastive Search Is What You Need For Neural Text Generation", TMLR, arXiv 2210.14140; found by
Su et al. 2022 (SimCTG), arXiv 2202.06417.

    V_k = the k most probable tokens after x_<t
    x_t = argmax over v in V_k of  (1 - alpha) p(v | x_<t) - alpha max_{j < t} cos(h_v, h_j)

h_v is the state of the last layer once v is read, so each token costs one pass over k candidates; the state, the cache
and the prediction of the one that is chosen are kept. p is the probability among all tokens. k = 1 and alpha = 0 are
greedy decoding. Where all states of a model are alike (see `counterpoint.evaluate.language.isotropy`) the penalty is
the same for all candidates, and what remains is greedy decoding too.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from counterpoint.decode.incremental import LanguageModel, Reading, Written
from counterpoint.decode.sample import check_p, draw
from counterpoint.errors import ConfigError


def contrastive_search(
    model: LanguageModel,
    prefixes: Sequence[Sequence[int]],
    *,
    max_new: int = 64,
    k: int = 5,
    alpha: float = 0.6,
    sampled: int = 0,
    p: float = 0.95,
    seed: int = 0,
) -> list[list[int]]:
    """New tokens of each prefix. Deterministic, and the same in any company, but for rounding.

    k: candidates per token. alpha: weight of the penalty. sampled: so many first tokens are drawn from the nucleus
    ``p`` instead (see `nucleus`), which gives another text for every ``seed``. Candidates of equal score: the more
    probable one. A text that has no token yet has nothing to be unlike: its first token is the most probable one.
    model: what writes. prefixes: ids of its tokens. max_new: new tokens of each, at most.

    >>> from counterpoint.encoders.causal import CausalLM
    >>> model = CausalLM.example()
    >>> [ids] = contrastive_search(model, model.prefix(["a cat"]), max_new=4, k=3)
    >>> len(ids) <= 4
    True
    """
    if k < 1:
        raise ConfigError(f"k={k}: give at least 1 candidate per token; 1 is greedy decoding.")
    if not 0 <= alpha <= 1:
        raise ConfigError(f"alpha={alpha}: give a weight from 0 (the probability alone) to 1 (the penalty alone).")
    check_p(p)
    if sampled < 0:
        raise ConfigError(f"sampled={sampled}: give the number of first tokens to draw, 0 for none.")
    random = torch.Generator().manual_seed(seed)
    with model.evaluating():
        reading, written = Reading(model, prefixes, room=max_new), Written(model, len(prefixes))
        if k > (known := reading.logits.shape[1]):
            raise ConfigError(f"k={k}: the model knows {known} tokens; give at most so many candidates.")
        before = F.normalize(reading.states, dim=-1)
        for t in range(max_new):
            if t < sampled:
                tokens = draw(reading.logits, random, p=p, temperature=1.0)
                at = torch.arange(len(tokens), device=tokens.device)
                reading.read(tokens)
            else:
                probability, candidates = reading.logits.softmax(-1).topk(k)  # (N, k), the most probable first
                own = reading.own
                reading.fork(candidates)
                state = F.normalize(reading.states, dim=-1).view(len(probability), k, -1)
                best = choose(probability, penalty(state, before, own), alpha)
                at = torch.arange(len(best), device=best.device) * k + best
                tokens = candidates.flatten()[at]
            on = written.write(tokens)
            if not len(on):
                break
            reading.select(at[on])
            before = torch.cat([before[on], F.normalize(reading.states, dim=-1)], 1)
    return written.tokens


def penalty(state: Tensor, before: Tensor, own: Tensor) -> Tensor:
    """The largest cosine of each candidate's state with those before it, ``(N, k)``; 0 where there are none.

    state: ``(N, k, D)``, before: ``(N, S, D)``, both of unit length. own: ``(N, S)`` bool, which of them count.
    """
    cosine = (state @ before.transpose(1, 2)).masked_fill(~own.unsqueeze(1), -torch.inf)
    return cosine.amax(-1).masked_fill(~own.any(1, keepdim=True), 0.0)


def choose(probability: Tensor, penalty: Tensor, alpha: float) -> Tensor:
    """The place ``(N,)`` of the best of the candidates ``(N, k)``, the most probable first; of equal ones the first.

    probability: of the candidates. penalty: their largest cosine with what was said. alpha: its weight.

    >>> probability, penalty = torch.tensor([[0.6, 0.4]]), torch.tensor([[0.9, 0.1]])
    >>> choose(probability, penalty, 0.0).tolist(), choose(probability, penalty, 0.6).tolist()
    ([0], [1])
    """
    return ((1 - alpha) * probability - alpha * penalty).argmax(1)
