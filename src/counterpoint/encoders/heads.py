"""What sits on top of an encoder: projector, predictor and prototypes for training; `Projected` is kept after it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from counterpoint.data.batch import Data
from counterpoint.encoders.base import Encoder, Traced, find, seeded
from counterpoint.encoders.layout import Stage, read_weights, write_json, write_weights
from counterpoint.encoders.static import StaticText
from counterpoint.encoders.wrapper import Around
from counterpoint.errors import ConfigError, DataError
from counterpoint.processes import alone, world

Norm = Literal["batch", "layer"] | None


class Projector(nn.Sequential):
    """A multi-layer perceptron ``(N, dim)`` to ``(N, out)``: linear, norm, ReLU for each hidden width, then linear.

    hidden: widths of the hidden layers; none: a linear map. norm: ``batch``, ``layer`` or None. affine: whether the
    hidden norms learn scale and shift. norm_out: a norm without scale and shift after the last layer too (SimSiam,
    Barlow Twins). bias: of the last layer, where no norm follows it. A layer that a norm follows has no bias.

    Sources: Chen et al. 2020 (SimCLR), arXiv 2002.05709; Chen & He 2021 (SimSiam), arXiv 2011.10566.

    >>> Projector(8, [16, 16], 4)(torch.randn(3, 8)).shape
    torch.Size([3, 4])
    """

    def __init__(
        self,
        dim: int,
        hidden: Sequence[int],
        out: int,
        *,
        norm: Norm = "batch",
        affine: bool = True,
        norm_out: bool = False,
        bias: bool = True,
    ) -> None:
        if min(dim, out, *hidden) < 1:
            raise ConfigError(f"A projector from {dim} over {tuple(hidden)} to {out}: every width must be at least 1.")
        if norm not in ("batch", "layer", None):
            raise ConfigError(f"norm={norm!r}: type 'batch', 'layer' or None.")
        if norm_out and norm is None:
            raise ConfigError("norm_out=True needs a norm: type norm='batch' or norm='layer'.")
        layers: list[nn.Module] = []
        for width in hidden:
            layers += [nn.Linear(dim, width, bias=norm is None), *_norm(norm, width, affine), nn.ReLU()]
            dim = width
        layers.append(nn.Linear(dim, out, bias=bias and not norm_out))
        if norm_out:
            layers += _norm(norm, out, False)
        super().__init__(*layers)


class Predictor(Projector):
    """A bottleneck ``(N, dim)`` to ``(N, dim)`` that predicts one view's projection from the other's.

    Sources: Grill et al. 2020 (BYOL), arXiv 2006.07733; Chen & He 2021 (SimSiam: hidden = dim / 4).

    >>> Predictor(8, 2)(torch.randn(3, 8)).shape
    torch.Size([3, 8])
    """

    def __init__(self, dim: int, hidden: int, *, norm: Norm = "batch", affine: bool = True) -> None:
        super().__init__(dim, (hidden,), dim, norm=norm, affine=affine)


def dense_pooler(dim: int, activation: Literal["tanh", "gelu", "none"] = "tanh") -> nn.Sequential:
    """A dense layer ``(N, dim)`` to ``(N, dim)`` on a pooled embedding, begun as the identity; ``none``: no layer.

    As the poolers of masked language models (tanh: BERT's next-sentence head; gelu: RoBERTa's prediction of words), for
    encoders that keep neither.

    activation: behind it.

    >>> z = torch.randn(3, 8)
    >>> bool(torch.allclose(dense_pooler(8, "none")(z), z)), dense_pooler(8)(z).shape
    (True, torch.Size([3, 8]))
    """
    if activation == "none":
        return nn.Sequential()
    if activation not in ("tanh", "gelu"):
        raise ConfigError(f"activation={activation!r}: type tanh, gelu or none.")
    dense = nn.Linear(dim, dim)
    nn.init.eye_(dense.weight)
    nn.init.zeros_(dense.bias)
    return nn.Sequential(dense, nn.Tanh() if activation == "tanh" else nn.GELU())


class PrototypeHead(nn.Module):
    """Cosines ``(N, k)`` of embeddings ``(N, dim)`` with k learned prototypes; both sides are normalised at use.

    Source: Caron et al. 2020 (SwAV), arXiv 2006.09882.

    >>> scores = PrototypeHead(8, 5)(torch.randn(3, 8))
    >>> scores.shape, bool((scores.abs() <= 1).all())
    (torch.Size([3, 5]), True)
    """

    def __init__(self, dim: int, k: int) -> None:
        super().__init__()
        if min(dim, k) < 1:
            raise ConfigError(f"{k} prototypes of width {dim}: both must be at least 1.")
        self.weight = nn.Parameter(F.normalize(torch.randn(k, dim), dim=-1))

    def forward(self, z: Tensor) -> Tensor:
        """Cosines ``(N, count)`` of rows z ``(N, dim)`` and the prototypes."""
        return F.normalize(z, dim=-1) @ F.normalize(self.weight, dim=-1).T


class DynamicHead(nn.Module):
    """Weights of a classifier ``(K, out)``, of unit length, made from the K words ``(K, dim)`` that it tells apart.

    Words of unit length, then linear, batch norm over the words, ReLU, linear: where the words change at every step, a
    weight follows the meaning of its word, not its number. Gradients reach the map, and the words where they want any.

    Source: Gidaris et al. 2021 (OBoW), arXiv 2012.11552, section 3.3.

    >>> weights = DynamicHead(8, 4)(torch.randn(10, 8))
    >>> weights.shape, bool(torch.allclose(weights.norm(dim=1), torch.ones(10)))
    (torch.Size([10, 4]), True)
    """

    def __init__(self, dim: int, out: int) -> None:
        super().__init__()
        self.map = nn.Sequential(
            nn.Linear(dim, 2 * out, bias=False), nn.BatchNorm1d(2 * out), nn.ReLU(), nn.Linear(2 * out, out)
        )

    def forward(self, words: Tensor) -> Tensor:
        """Unit weights ``(V, out)`` of V words ``(V, dim)``."""
        with alone():  # the words are the same on every process, so their statistics are those of one
            return F.normalize(self.map(F.normalize(words, dim=-1)), dim=-1)


class AsymmetricHead(nn.Module):
    """Linear, batch norm, linear, for two roles: one normalised by its batch, the other by running statistics.

    Normalised alike, both roles would carry the statistics of the batch, by which partners find each other without
    looking at what they say. The roles change places after every `step`. During the first ``warmup`` steps both use
    their batch, as running statistics that were never measured normalise nothing; in eval mode both use the running
    ones. asymmetric: False: always both their batch, as in an ordinary head.

    The role on running statistics is computed first, from what earlier batches left. Over many processes a batch is a
    process's own rows, or all rows under ``sync_batchnorm``; running statistics are averaged after each step.

    dim, hidden, out: widths. warmup: see f above.

    Source: Wu et al. 2022 (contrastive context prediction), arXiv 2206.03281.

    >>> head = AsymmetricHead(8, 16, 4)
    >>> a, b = head(torch.randn(6, 8), torch.randn(6, 8))
    >>> head.step()
    >>> a.shape, b.shape
    (torch.Size([6, 4]), torch.Size([6, 4]))
    """

    steps: Tensor

    def __init__(self, dim: int, hidden: int, out: int, *, warmup: int = 30, asymmetric: bool = True) -> None:
        super().__init__()
        if min(dim, hidden, out) < 1 or warmup < 1:
            raise ConfigError(
                f"AsymmetricHead({dim}, {hidden}, {out}, warmup={warmup}): widths of at least 1, and at least one step "
                "in which running statistics are measured."
            )
        self.into, self.norm, self.out = (
            nn.Linear(dim, hidden, bias=False),
            nn.BatchNorm1d(hidden),
            nn.Linear(hidden, out),
        )
        self.warmup, self.asymmetric = warmup, asymmetric
        self.register_buffer("steps", torch.tensor(0))

    def forward(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        """Both roles ``(N, dim)`` to ``(N, out)`` each.

        a, b: the two roles; which one the batch normalises changes with each step.
        """
        if not self.training:
            return self.out(self._running(self.into(a))), self.out(self._running(self.into(b)))
        if min(len(a), len(b)) < 2 and world() == 1:
            raise DataError("Batch normalisation of one row: it has no variance. Use batches of at least 2 rows.")
        steps = int(self.steps)
        if not self.asymmetric or steps < self.warmup:
            return self.out(self.norm(self.into(a))), self.out(self.norm(self.into(b)))
        swap = steps % 2 == 1
        own, other = (b, a) if swap else (a, b)
        other = self.out(self._running(self.into(other)))
        own = self.out(self.norm(self.into(own)))
        return (other, own) if swap else (own, other)

    def _running(self, x: Tensor) -> Tensor:
        """By the running statistics as they are now: the other role moves them before gradients are computed."""
        norm = self.norm
        assert norm.running_mean is not None
        assert norm.running_var is not None
        mean, var = norm.running_mean.clone(), norm.running_var.clone()
        out: Tensor = (x - mean) * torch.rsqrt(var + norm.eps) * norm.weight + norm.bias
        return out

    def step(self) -> None:
        """Once after every optimiser step: the roles change places."""
        self.steps += 1


@dataclass(frozen=True, kw_only=True)
class ProjectedConfig:
    """dim: width after the map. kind, inner: the encoder below and its configuration. hidden: see `Projected`."""

    dim: int
    kind: str
    inner: dict[str, Any] = field(default_factory=dict)
    hidden: int = 0


class Projected(Around):
    """An encoder followed by a linear map without bias: towers of different widths meet in one space.

    hidden: width of a hidden layer with ReLU before it, which makes the map a perceptron (0: none).

    >>> Projected(ConvNet(), 64).dim   # doctest: +SKIP
    64
    """

    kind: ClassVar[str] = "projected"

    def __init__(self, encoder: Encoder, dim: int, *, hidden: int = 0) -> None:
        super().__init__()
        self._surround(encoder)
        self.hidden = hidden
        self.projection: nn.Module = (
            Projector(encoder.dim, (hidden,), dim, norm=None) if hidden else nn.Linear(encoder.dim, dim, bias=False)
        )
        self.dim = dim

    @property
    def config(self) -> ProjectedConfig:  # type: ignore[override]
        inner = asdict(self.encoder.config)
        return ProjectedConfig(dim=self.dim, kind=self.encoder.kind, inner=inner, hidden=self.hidden)

    def forward(self, data: Data) -> Tensor:
        out: Tensor = self.projection(self.encoder(data))
        return out

    def tokens(self, data: Data) -> tuple[Tensor, Tensor]:
        """Token embeddings in the projected space: where pooling is linear, their pooling is the embedding.

        data: as of the encoder below.
        """
        tokens, mask = self.encoder.tokens(data)
        return self.projection(tokens), mask

    @classmethod
    def example(cls, seed: int = 0) -> Self:
        inner = StaticText.example(seed)
        with seeded(seed):
            return cls(inner, 8)

    def traced(self) -> Traced:
        inner = self.encoder.traced()
        return replace(inner, forward=lambda *given: self.projection(inner.forward(*given)))

    @contextmanager
    def _computing(self, precision: str) -> Iterator[Any]:
        with self.encoder._computing(precision) as forward:
            yield lambda data: self.projection(forward(data).float())

    def write(self, folder: Path) -> list[Stage]:
        stages = self.encoder.write(folder)
        dense = folder / "Dense"
        dense.mkdir()
        if self.hidden:  # sentence-transformers would need a module for each layer: it cannot load this folder
            write_weights(dense / "model.safetensors", self.projection.state_dict())
            return []
        assert isinstance(self.projection, nn.Linear)
        out, into = self.projection.weight.shape
        write_weights(dense / "model.safetensors", {"linear.weight": self.projection.weight})
        write_json(
            dense / "config.json",
            {
                "in_features": into,
                "out_features": out,
                "bias": False,
                "activation_function": "torch.nn.modules.linear.Identity",
            },
        )
        return [*stages, Stage(type="sentence_transformers.models.Dense", path="Dense")] if stages else []

    @classmethod
    def read(cls, folder: Path, config: Mapping[str, Any]) -> Self:
        hidden = config.get("hidden", 0)
        encoder = cls(find(config["kind"]).read(folder, config["inner"]), config["dim"], hidden=hidden)
        weights = read_weights(folder / "Dense/model.safetensors")
        encoder.projection.load_state_dict(weights if hidden else {"weight": weights["linear.weight"]})
        return encoder


def unprojected(encoder: Encoder | None) -> Encoder | None:
    """The encoder below the projections of a tower, of which one that goes on from an earlier run has several."""
    while isinstance(encoder, Projected):
        encoder = encoder.encoder
    return encoder


def _norm(norm: Norm, width: int, affine: bool) -> list[nn.Module]:
    if norm == "batch":
        return [nn.BatchNorm1d(width, affine=affine)]
    if norm == "layer":
        return [nn.LayerNorm(width, elementwise_affine=affine)]
    return []
