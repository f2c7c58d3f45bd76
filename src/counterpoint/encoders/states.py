"""Hidden states of an encoder as one tensor, so that gradient caching can compute them in micro-batches.

`counterpoint.train.gradcache.embed` calls a module that turns the items of a batch into a tensor whose first axis are
these items. What a loss needs beside the embeddings (several layers, tokens with their mask, a part that is computed
from hidden input) stands side by side in that tensor, as wide in every micro-batch as in all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from counterpoint.data.batch import Data
from counterpoint.encoders.base import Encoder

if TYPE_CHECKING:
    from counterpoint.encoders.audio import AudioTransformer


class LayerStates(nn.Module):
    """Embeddings ``(N, len(layers), D)`` of several layers of a transformer (None: of the last one, of any encoder).

    encoder: one with ``exits`` where layers are named. layers: numbers from 1.

    >>> from counterpoint.encoders.text import TextTransformer
    >>> encoder = TextTransformer.example()
    >>> LayerStates(encoder, [1, 2])(encoder.collate(["a cat"])).shape[:2]
    torch.Size([1, 2])
    """

    def __init__(self, encoder: Encoder, layers: Sequence[int] | None) -> None:
        super().__init__()
        self.encoder, self.layers = encoder, layers

    def forward(self, data: Data) -> Tensor:
        """What the encoder gives after each of the layers, ``(N, layers, D)``, for data as its `collate` gives it."""
        out: Tensor = (
            self.encoder(data).unsqueeze(1) if self.layers is None else self.encoder.exits(data, self.layers)  # type: ignore[operator]
        )
        return out


class TokenStates(nn.Module):
    """The tokens of an encoder, and in a last column which of them are real: ``(N, places, D + 1)``.

    places: how many there are of the longest item of the whole batch; what is beyond an item's own is 0.

    >>> from counterpoint.encoders.static import StaticText
    >>> encoder = StaticText.example()
    >>> TokenStates(encoder, 8)(encoder.collate(["a cat"])).shape == (1, 8, encoder.dim + 1)
    True
    """

    def __init__(self, encoder: Encoder, places: int) -> None:
        super().__init__()
        self.encoder, self.places = encoder, places

    def forward(self, data: Data) -> Tensor:
        """Token embeddings and whether they are real, ``(N, places, D + 1)``, for data as the encoder's `collate` gives
        it."""
        x, mask = self.encoder.tokens(data)
        return F.pad(torch.cat((x, mask.unsqueeze(-1).to(x)), -1), (0, 0, 0, self.places - x.shape[1]))


class Features(nn.Module):
    """The embedding of an encoder and its tokens in one pass: ``(N, 1 + T, D)``.

    encoder: one with ``features``, to the pooled embedding and the tokens, or with ``tokens``, of which the first is
    the embedding.
    """

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, data: Data) -> Tensor:
        """``(N, 1 + T, D)`` for data as the encoder's `collate` gives it."""
        if not hasattr(self.encoder, "features"):
            out: Tensor = self.encoder.tokens(data)[0]
            return out
        pooled, tokens = self.encoder.features(data)
        return torch.cat((pooled.unsqueeze(1), tokens), 1)


class MaskedFrames(nn.Module):
    """Of recordings in which places are hidden behind noise: features of the front as they are, the output of the block
    ``split`` and that of the last one, side by side ``(N, places, width + 2 dim)``.

    split: from 1. places: as of `TokenStates`. The data's ``hidden`` ``(N, places)`` bool names the places, its
    ``noise`` ``(N, places, width)`` is what stands there. For `views.audio.span_mask`. encoder: of recordings.
    """

    def __init__(self, encoder: AudioTransformer, split: int, places: int) -> None:
        super().__init__()
        self.encoder, self.split, self.places = encoder, split, places

    def forward(self, data: Data) -> Tensor:
        """``(N, places, width + 2 dim)`` for data as `collate` gives it, with ``hidden`` and ``noise``."""
        assert not isinstance(data, Tensor)
        e, mask = self.encoder.features(data)
        hidden, noise = (data[name][:, : e.shape[1]] for name in ("hidden", "noise"))
        layers = self.encoder.layers(torch.where(hidden.unsqueeze(-1), noise.to(e), e), mask)
        z = torch.cat((e, layers[self.split - 1], layers[-1]), -1)
        return F.pad(z, (0, 0, 0, self.places - z.shape[1]))
