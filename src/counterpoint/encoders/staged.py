"""An encoder followed by stages that turn its embedding into another one, as a sentence-transformers folder lists them.

A stage is a mapping with its ``type``: ``Dense`` (in, dim, activation, bias, use_residual), ``LayerNorm`` (dim),
``Normalize``, ``Dropout`` (dropout), ``Truncate`` (dim: only the first so many dimensions).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from counterpoint.data.batch import Data
from counterpoint.encoders.base import Encoder, Traced, find, seeded
from counterpoint.encoders.heads import Projected
from counterpoint.encoders.layout import Stage, read_weights, refuse_pickles, revive, write_json, write_weights
from counterpoint.encoders.modules import ACTIVATIONS
from counterpoint.encoders.static import StaticText
from counterpoint.encoders.wrapper import Around
from counterpoint.errors import ModelError

_IDENTITY = "torch.nn.modules.linear.Identity"
_TYPES = "sentence_transformers.models."


@dataclass(frozen=True, kw_only=True)
class StagedConfig:
    """kind, inner: the encoder below and its configuration. stages: what follows it, in order."""

    kind: str
    inner: dict[str, Any] = field(default_factory=dict)
    stages: tuple[dict[str, Any], ...] = ()


class Dense(nn.Module):
    """``activation(W x + b)``, and where ``residual`` says so what came in is added, through a map of its own where
    widths differ.

    into, out: widths. bias: add b.
    """

    def __init__(self, into: int, out: int, *, activation: str, bias: bool, residual: bool) -> None:
        super().__init__()
        self.linear, self.activation, self.adds = nn.Linear(into, out, bias=bias), ACTIVATIONS[activation](), residual
        self.residual = nn.Linear(into, out, bias=False) if residual and into != out else None

    def forward(self, x: Tensor) -> Tensor:
        """x ``(N, into)`` to ``(N, out)``."""
        out: Tensor = self.activation(self.linear(x))
        if not self.adds:
            return out
        return out + (x if self.residual is None else self.residual(x))


class LayerNorm(nn.Module):
    """Mean 0 and variance 1 over the dimensions, then a scale and a shift of each.

    dim: how many.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        """x ``(N, dim)`` to ``(N, dim)``."""
        return self.norm(x)  # type: ignore[no-any-return]


class Normalize(nn.Module):
    """Unit length."""

    def forward(self, x: Tensor) -> Tensor:
        """x ``(N, D)`` to unit length."""
        return F.normalize(x, dim=-1)


class Truncate(nn.Module):
    """The first ``dim`` dimensions, as they are: without bringing them back to unit length."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, x: Tensor) -> Tensor:
        """The first ``dim`` of the dimensions of x ``(N, D)``."""
        return x[..., : self.dim]


class Staged(Around):
    """An encoder of any modality, and stages ``(N, D)`` to ``(N, D')`` behind it; the last gives the embedding.

    encoder: the one below, whose own unit length is not asked for. stages: see the module.

    >>> from counterpoint.encoders.static import StaticText
    >>> encoder = Staged(StaticText.example(), [{"type": "Truncate", "dim": 4}, {"type": "Normalize"}])
    >>> encoder.encode(["a cat"]).shape
    (1, 4)
    """

    kind: ClassVar[str] = "staged"
    normalize: bool = False  # type: ignore[override]  # its own, after the last stage

    def __init__(self, encoder: Encoder, stages: Sequence[Mapping[str, Any]]) -> None:
        super().__init__()
        self._surround(encoder)
        self.said = tuple({k: v for k, v in stage.items() if k != "from"} for stage in stages)
        self.stages = nn.ModuleList()
        self.dim = encoder.dim
        for stage in self.said:
            self.stages.append(self._made(stage))

    def _made(self, stage: Mapping[str, Any]) -> nn.Module:
        """One stage, after which embeddings are `dim` wide."""
        match stage["type"]:
            case "Dense":
                self._takes(stage["in"], "Dense")
                self.dim = stage["dim"]
                options = {"activation": stage["activation"], "bias": stage["bias"], "residual": stage["use_residual"]}
                return Dense(stage["in"], stage["dim"], **options)
            case "LayerNorm":
                self._takes(stage["dim"], "LayerNorm")
                return LayerNorm(stage["dim"])
            case "Normalize":
                return Normalize()
            case "Dropout":
                return nn.Dropout(stage["dropout"])
            case "Truncate":
                self.dim = min(self.dim, stage["dim"])
                return Truncate(self.dim)
        raise ModelError(f"There is no stage {stage['type']!r}. The model folder is damaged: save the model again.")

    def _takes(self, width: int, what: str) -> None:
        if width != self.dim:
            raise ModelError(
                f"A {what} takes embeddings {width} wide, and what comes before it gives {self.dim}. The modules of "
                "the folder do not belong together: copy or download it again."
            )

    @property
    def config(self) -> StagedConfig:  # type: ignore[override]
        return StagedConfig(kind=self.encoder.kind, inner=asdict(self.encoder.config), stages=self.said)

    def passed(self, z: Tensor) -> Tensor:
        """What the stages make of the embeddings ``(N, D)`` of the encoder below.

        z: from there.
        """
        for stage in self.stages:
            z = stage(z)
        return z

    def forward(self, data: Data) -> Tensor:
        return self.passed(self.encoder(data))

    def tokens(self, data: Data) -> tuple[Tensor, Tensor]:
        """Those of the encoder below: stages are of whole embeddings.

        data: as of it.
        """
        return self.encoder.tokens(data)

    @classmethod
    def example(cls, seed: int = 0) -> Self:
        inner = StaticText.example(seed)
        inner.normalize = False
        activation = "torch.nn.modules.activation.Tanh"
        dense = {"type": "Dense", "in": inner.dim, "dim": 8, "activation": activation, "bias": True}
        with seeded(seed):
            return cls(inner, [{**dense, "use_residual": False}, {"type": "Normalize"}, {"type": "Truncate", "dim": 6}])

    def traced(self) -> Traced:
        inner = self.encoder.traced()
        return replace(inner, forward=lambda *given: self.passed(inner.forward(*given)))

    @contextmanager
    def _computing(self, precision: str) -> Iterator[Any]:
        with self.encoder._computing(precision) as forward:
            yield lambda data: self.passed(forward(data).float())

    # --- on disk ---------------------------------------------------------------------------------------------------

    def write(self, folder: Path) -> list[Stage]:
        """The encoder below, and each stage as a module of sentence-transformers in a folder of its own; a truncation
        as a linear map that picks the first dimensions, which all versions of that library follow."""
        below = self.encoder.write(folder)
        listed, width = [], self.encoder.dim
        for i, (stage, module) in enumerate(zip(self.said, self.stages)):
            kind = "Dense" if stage["type"] == "Truncate" else stage["type"]
            path = f"Stage{i}_{kind}"
            (folder / path).mkdir()
            width = _write_stage(folder / path, stage, module, width)
            listed.append(Stage(type=_TYPES + kind, path=path))
        return [*below, *listed] if below else []

    @classmethod
    def read(cls, folder: Path, config: Mapping[str, Any]) -> Self:
        c: StagedConfig = revive(StagedConfig, config)
        kinds = ["Dense" if stage["type"] == "Truncate" else stage["type"] for stage in c.stages]
        where = [str(folder / f"Stage{i}_{kind}") for i, kind in enumerate(kinds)]
        stages = [{**stage, "from": path} for stage, path in zip(c.stages, where)]
        return cls(find(c.kind).read(folder, c.inner), stages)._filled(stages)

    def _filled(self, stages: Sequence[Mapping[str, Any]]) -> Self:
        """The weights of each stage from the folder that it names as ``from``."""
        for stage, module in zip(stages, self.stages):
            if not isinstance(module, Dense | LayerNorm):
                continue
            path = Path(stage["from"])
            refuse_pickles(path)
            held = {name: x.float() for name, x in read_weights(path / "model.safetensors").items()}
            wanted = {name: x.shape for name, x in module.state_dict().items()}
            if {name: x.shape for name, x in held.items()} != wanted:
                raise ModelError(
                    f"The weights {path / 'model.safetensors'} do not fit {path / 'config.json'}. The folder is "
                    "damaged: copy or download it again."
                )
            module.load_state_dict(held)
        return self


def staged(encoder: Encoder, stages: Sequence[Mapping[str, Any]]) -> Encoder:
    """The encoder behind which these stages stand, with the weights of the folders that they name as ``from``.

    Where unit length comes last it is not a stage but the encoder's own ``normalize``; no stages: the encoder itself.
    """
    unit = bool(stages) and stages[-1]["type"] == "Normalize"
    stages = stages[:-1] if unit else stages
    out = Staged(encoder, stages)._filled(stages) if stages else encoder
    encoder.normalize = False
    out.normalize = unit
    return out


def innermost(encoder: Encoder) -> Encoder:
    """The encoder inside all that is around it and only changes its embedding.

    >>> from counterpoint.encoders.heads import Projected
    >>> from counterpoint.encoders.static import StaticText
    >>> encoder = StaticText.example()
    >>> innermost(Projected(encoder, 4)) is encoder
    True
    """
    while isinstance(encoder, Projected | Staged):
        encoder = encoder.encoder
    return encoder


def _write_stage(folder: Path, stage: Mapping[str, Any], module: nn.Module, width: int) -> int:
    """The module's files; returns the width after it. width: before it."""
    match stage["type"]:
        case "Dense" | "Truncate":
            dim = min(width, stage["dim"]) if stage["type"] == "Truncate" else stage["dim"]
            plain = {"activation": _IDENTITY, "bias": False, "use_residual": False}
            said = plain if stage["type"] == "Truncate" else stage
            weights = {"linear.weight": torch.eye(dim, width)} if said is plain else module.state_dict()
            write_weights(folder / "model.safetensors", weights)
            config = {
                "in_features": width,
                "out_features": dim,
                "bias": said["bias"],
                "activation_function": said["activation"],
                **({"use_residual": True} if said["use_residual"] else {}),
            }
            write_json(folder / "config.json", config)
            return int(dim)
        case "LayerNorm":
            write_weights(folder / "model.safetensors", module.state_dict())
            write_json(folder / "config.json", {"dimension": width})
        case "Dropout":
            write_json(folder / "config.json", {"dropout": stage["dropout"]})
    return width
