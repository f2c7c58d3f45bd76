"""Encoders that are cut: fewer layers of a transformer, fewer dimensions of an embedding.

What is cut is an ordinary encoder again: it is saved, exported and trained on as any other. It is as good as the
exits, and the first dimensions, were trained to be.
"""

from __future__ import annotations

import copy
from dataclasses import replace

import torch
from torch import nn

from counterpoint.encoders.base import Encoder
from counterpoint.encoders.heads import Projected
from counterpoint.encoders.layers import check, stack
from counterpoint.encoders.staged import innermost
from counterpoint.encoders.text import TextTransformer
from counterpoint.errors import ConfigError


def truncated(encoder: Encoder, *, layers: int | None = None, dim: int | None = None) -> Encoder:
    """A copy that stops after ``layers`` layers and gives the first ``dim`` dimensions of its embedding (None: all).

    Its embeddings are those of `TextTransformer.exits` at that layer, cut to ``dim`` and, where the encoder gives unit
    vectors, of unit length again. The width is cut by a linear map (`Projected`) that picks the first dimensions, which
    is a module that sentence-transformers and ONNX know.

    Raises `ConfigError` for more layers or dimensions than there are, and for layers of an encoder without any.

    encoder: stays as it is.

    >>> from counterpoint.encoders.text import TextTransformer
    >>> encoder = TextTransformer.example()
    >>> small = truncated(encoder, layers=1, dim=8)
    >>> depth(small), small.encode("a cat").shape
    (1, (8,))
    """
    if dim is not None and not 1 <= dim <= encoder.dim:
        raise ConfigError(f"dim={dim}: this encoder gives {encoder.dim} dimensions; keep from 1 to {encoder.dim}.")
    cut = _shallower(encoder, layers)
    return cut if dim is None or dim == encoder.dim else _narrower(cut, dim)


def depth(encoder: Encoder) -> int:
    """Number of layers after which an encoder can stop; 1 where it is no transformer of text.

    encoder: of any class.

    >>> from counterpoint.encoders.vectors import Vectors
    >>> depth(Vectors.example())
    1
    """
    inner = _inner(encoder)
    return 1 if inner is None else inner.depth


def _inner(encoder: Encoder) -> TextTransformer | None:
    encoder = innermost(encoder)
    return encoder if isinstance(encoder, TextTransformer) else None


def _shallower(encoder: Encoder, layers: int | None) -> Encoder:
    inner = _inner(encoder)
    if inner is None:
        if layers not in (None, 1):
            raise ConfigError(
                f"layers={layers}: no layers of a {encoder.kind} encoder can be left out; give dim alone."
            )
        return copy.deepcopy(encoder)
    check(inner.depth if layers is None else layers, inner.depth)
    copied = copy.deepcopy(encoder)
    inner = _inner(copied)
    if inner is not None and layers is not None and layers < inner.depth:
        _keep(inner, layers)
    return copied


def _keep(encoder: TextTransformer, n: int) -> None:
    """Drop the layers behind the first n, from the weights and from what the folder will say."""
    parent, name = stack(encoder.transformer)[0].rpartition(".")[::2]
    holder = encoder.transformer.get_submodule(parent)
    setattr(holder, name, getattr(holder, name)[:n])
    settings = encoder.transformer.config
    settings.num_hidden_layers = n
    if getattr(settings, "layer_types", None):
        settings.layer_types = settings.layer_types[:n]
    said = encoder.config.architecture and settings.to_diff_dict() | {"model_type": settings.model_type}
    encoder.config = replace(encoder.config, layers=n, architecture=said)


def _narrower(encoder: Encoder, dim: int) -> Encoder:
    if isinstance(encoder, Projected) and isinstance(encoder.projection, nn.Linear):
        # A linear map already: fewer rows of it.
        kept = encoder.projection.weight.detach()[:dim].clone()
        encoder = encoder.encoder
    else:
        like = next(encoder.parameters())
        kept = torch.eye(dim, encoder.dim, dtype=like.dtype, device=like.device)
    out = Projected(encoder, dim)
    out.projection.weight = nn.Parameter(kept)
    return out.train(encoder.training)
