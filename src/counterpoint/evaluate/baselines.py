"""What a figure stands beside: systems that learned nothing, each with a name that says what it is."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from counterpoint.encoders.base import Encoder
from counterpoint.search.bm25 import BM25
from counterpoint.search.exact import Run
from counterpoint.search.terms import Tokenizer


def bm25(documents: Sequence[str], queries: Sequence[str], *, k: int, tokenizer: str | Tokenizer = "words") -> Run:
    """BM25's ranking of the documents for each query.

    queries: Q texts. k: results wanted. tokenizer: of both.

    >>> scores, ids = bm25(["a cat sat", "a dog ran"], ["the dog"], k=1)
    >>> ids.tolist()
    [[1]]
    """
    return BM25(documents, tokenizer=tokenizer).search(queries, k)


def random_ranking(queries: int, documents: int, *, k: int, seed: int = 0) -> np.ndarray:
    """Ids of k documents in random order for each query, ``(Q, min(k, M))``.

    queries: Q. documents: M. seed: of the draws.

    >>> random_ranking(3, 10, k=5).shape
    (3, 5)
    """
    rng, size = np.random.default_rng(seed), min(k, documents)
    rows = [rng.choice(documents, size, replace=False) for _ in range(queries)]
    return np.array(rows, dtype=np.int64).reshape(queries, size)


def majority(labels: np.ndarray, n: int) -> np.ndarray:
    """The commonest training class, n times; of equally common ones the smallest number.

    labels: ``(N,)``.

    >>> majority(np.array([2, 2, 5]), 3).tolist()
    [2, 2, 2]
    """
    return np.full(n, np.bincount(labels).argmax())


def fresh(encoder: Encoder, *, seed: int = 0) -> Encoder:
    """A copy of the encoder with newly drawn weights: the same architecture, nothing learned.

    Layers redraw their own weights (``reset_parameters``). A parameter that belongs to no such layer (a class token,
    position embeddings) is drawn from N(0, 0.02²), but a vector called ``weight`` (a scale) is 1 and a ``bias`` is 0.

    encoder: stays as it is. seed: of the new weights.

    >>> from counterpoint.encoders.static import StaticText
    >>> encoder = StaticText.example()
    >>> untrained = fresh(encoder, seed=1)
    >>> bool(np.allclose(encoder.encode("a cat"), untrained.encode("a cat")))
    False
    """
    out = copy.deepcopy(encoder)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        for module in out.modules():
            reset = getattr(module, "reset_parameters", None) or getattr(module, "_reset_parameters", None)
            if callable(reset):
                reset()
            else:
                _redraw(module)
    return out.eval()


def _redraw(module: nn.Module) -> None:
    for name, parameter in module.named_parameters(recurse=False):
        if name == "bias":
            parameter.zero_()
        elif name == "weight" and parameter.ndim == 1:
            parameter.fill_(1.0)
        else:
            # Drawn on the CPU: one seed, one encoder, on every device.
            parameter.copy_(torch.randn(parameter.shape, dtype=torch.float32) * 0.02)
