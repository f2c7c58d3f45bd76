"""Encoders for pairs: each text by itself, its top layers side by side, and a head that scores two embeddings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from torch import Tensor, nn

from counterpoint.data.batch import Data
from counterpoint.encoders.base import Encoder, Traced, find
from counterpoint.encoders.cross import Pair, check_pairs, is_pair
from counterpoint.encoders.layout import Stage, read_weights, write_weights
from counterpoint.encoders.pooling import pool
from counterpoint.encoders.text import TextTransformer
from counterpoint.encoders.wrapper import Around
from counterpoint.errors import ConfigError, ModelError

Head = Literal["features", "dot"]


class PairHead(nn.Module):
    """Scores ``(N, out)`` of pairs of embeddings ``(N, dim)`` each.

    ``features``: ``Linear(ReLU(Linear([u; v; u*v; |u-v|])))``, which tells first from second. ``dot``: ``u·v`` alone,
    which an index of vectors can search; it has one output and no parameters.

    dim: of one embedding. out: scores of a pair. hidden: width between the two maps. kind: features or dot.

    Source: Barkan et al. 2019 (DSE), arXiv 1908.05161; the features without u*v are those of InferSent.

    >>> u, v = torch.randn(2, 3, 8)
    >>> PairHead(8, hidden=16)(u, v).shape, bool(torch.allclose(PairHead(8, kind="dot")(u, v)[:, 0], (u * v).sum(1)))
    (torch.Size([3, 1]), True)
    """

    def __init__(self, dim: int, out: int = 1, *, hidden: int = 512, kind: Head = "features") -> None:
        super().__init__()
        if kind not in ("features", "dot"):
            raise ConfigError(f"head={kind!r}: type features or dot.")
        if kind == "dot" and out != 1:
            raise ConfigError(f"A product of two embeddings is one score; {out} classes need head=features.")
        self.kind, self.out = kind, out
        if kind == "features":
            self.into, self.last = nn.Linear(4 * dim, hidden), nn.Linear(hidden, out)

    def forward(self, u: Tensor, v: Tensor) -> Tensor:
        """Scores ``(N, out)`` of embeddings u and v, ``(N, dim)`` each."""
        if self.kind == "dot":
            return (u * v).sum(-1, keepdim=True)
        scores: Tensor = self.last(self.into(torch.cat([u, v, u * v, (u - v).abs()], dim=-1)).relu())
        return scores


@dataclass(frozen=True, kw_only=True)
class PairConfig:
    """kind, inner: the encoder below and its configuration. top: of how many layers, from the last one down, the hidden
    states stand side by side (0: the embedding as the encoder below gives it). head, hidden, out: see `PairHead`."""

    kind: str
    inner: dict[str, Any] = field(default_factory=dict)
    top: int = 0
    head: Head = "features"
    hidden: int = 512
    out: int = 1


class PairEncoder(Around):
    """An encoder of single texts, and the head that scores two of its embeddings: a `Scorer`, quick where embeddings
    are kept.

    top: the hidden states of so many last layers side by side, ``(N, top * width)``, their mean over the tokens but the
    first one ([CLS]); for transformers only. encoder: of single texts. head, hidden, out: of the `PairHead`.

    >>> from counterpoint.encoders.static import StaticText
    >>> scorer = PairEncoder(StaticText.example(), hidden=8)
    >>> scorer.score([("a cat", "a dog"), ("a cat", "a car")]).shape
    (2,)
    """

    kind: ClassVar[str] = "pairs"
    normalize: bool = False  # type: ignore[override]  # the head reads embeddings as they are

    def __init__(
        self, encoder: Encoder, *, top: int = 0, head: Head = "features", hidden: int = 512, out: int = 1
    ) -> None:
        super().__init__()
        if top and not isinstance(encoder, TextTransformer):
            raise ConfigError(f"top={top}: a {type(encoder).__name__} has no layers. Type top=0.")
        if top and isinstance(encoder, TextTransformer) and top > encoder.transformer.config.num_hidden_layers:
            raise ConfigError(f"top={top}: this encoder has {encoder.transformer.config.num_hidden_layers} layers.")
        self._surround(encoder)
        self.top = top
        self.dim = encoder.dim * max(1, top)
        self.head = PairHead(self.dim, out, hidden=hidden, kind=head)
        self._hidden = hidden

    @classmethod
    def on(cls, encoder: Encoder, *, top: int = 4, head: Head = "features", hidden: int = 512, out: int = 1) -> Self:
        """On an encoder, with as many of the top layers as there are; one that scores pairs already stays as it is.

        top, head, hidden, out: as in the class.
        """
        if isinstance(encoder, cls):
            return encoder
        layers = encoder.transformer.config.num_hidden_layers if isinstance(encoder, TextTransformer) else 0
        return cls(encoder, top=min(top, layers), head=head, hidden=hidden, out=out)

    @property
    def config(self) -> PairConfig:  # type: ignore[override]
        inner = asdict(self.encoder.config)
        return PairConfig(
            kind=self.encoder.kind,
            inner=inner,
            top=self.top,
            head=self.head.kind,
            hidden=self._hidden,
            out=self.head.out,
        )

    def forward(self, data: Data) -> Tensor:
        if not self.top:
            out: Tensor = self.encoder(data)
            return out
        assert isinstance(self.encoder, TextTransformer)
        assert not isinstance(data, Tensor)
        states = self.encoder.hidden_states(data)[-self.top :]
        mask = data["attention_mask"].bool()
        # A text of one token has nothing but its first one: zeros then.
        return pool(torch.cat(states, dim=-1), mask & (mask.cumsum(1) > 1), mode="mean")

    @classmethod
    def example(cls, seed: int = 0) -> Self:
        return cls(TextTransformer.example(seed), top=2, head="dot")

    def traced(self) -> Traced:
        """Of the embeddings; pairs are scored from two of them."""
        if self.top:
            raise ModelError(
                f"An encoder of pairs has no ONNX form: it reads the last {self.top} layers, and a file holds the last "
                "one alone. Load its folder with counterpoint.encoders.folder.load instead."
            )
        return self.encoder.traced()

    # --- pairs -----------------------------------------------------------------------------------------------------

    def score(self, pairs: Pair | Sequence[Pair]) -> np.ndarray:
        """``(N,)``, or ``(N, C)`` logits of pairs of texts; each distinct text is encoded once. Of one pair alone,
        ``()`` or ``(C,)``."""
        if is_pair(pairs):
            return self.score([pairs])[0]  # type: ignore[no-any-return]
        check_pairs(pairs)
        texts = list(dict.fromkeys(text for pair in pairs for text in pair))
        at = {text: i for i, text in enumerate(texts)}
        z = self.encode(texts, normalize=False)
        return self.score_embeddings(z[[at[a] for a, _ in pairs]], z[[at[b] for _, b in pairs]])

    def score_embeddings(self, u: np.ndarray, v: np.ndarray) -> np.ndarray:
        """The same from embeddings ``(N, D)`` that were kept (`encode` with ``normalize=False``).

        u, v: of the first and the second texts.
        """
        with self.evaluating():
            parts = [
                self.head(*(torch.tensor(x[start : start + 65_536], device=self.device) for x in (u, v))).cpu()
                for start in range(0, max(1, len(u)), 65_536)
            ]
        scores = torch.cat(parts).numpy()
        return scores[:, 0] if self.head.out == 1 else scores

    # --- on disk ---------------------------------------------------------------------------------------------------

    def write(self, folder: Path) -> list[Stage]:
        self.encoder.write(folder)
        (folder / "Head").mkdir()
        write_weights(folder / "Head/model.safetensors", self.head.state_dict())
        return []  # sentence-transformers has no module for the head, nor for several layers

    @classmethod
    def read(cls, folder: Path, config: Mapping[str, Any]) -> Self:
        c = PairConfig(**config)
        encoder = cls(find(c.kind).read(folder, c.inner), top=c.top, head=c.head, hidden=c.hidden, out=c.out)
        weights = read_weights(folder / "Head/model.safetensors")
        if weights.keys() != encoder.head.state_dict().keys():
            raise ModelError(f"The head in {folder} is no {c.head} head. Save the model again.")
        encoder.head.load_state_dict(weights)
        return encoder
