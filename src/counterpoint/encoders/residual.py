"""A static text encoder with depth: the mean of subword embeddings, then residual perceptrons. Trains in seconds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from torch import Tensor, nn

from counterpoint.data.batch import Data
from counterpoint.encoders import pretrained
from counterpoint.encoders.base import Traced, fitted
from counterpoint.encoders.layout import Stage, revive, write_weights
from counterpoint.encoders.static import StaticText, StaticTextConfig
from counterpoint.errors import ConfigError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


@dataclass(frozen=True, kw_only=True)
class ResidualTextConfig(StaticTextConfig):
    """As `StaticTextConfig`. blocks: residual perceptrons. expand: their hidden width, as a multiple of ``dim``."""

    blocks: int = 2
    expand: float = 2.0

    def __post_init__(self) -> None:
        # By its name: of dataclasses, the first decorator may have made the class anew.
        StaticTextConfig.__post_init__(self)
        if self.blocks < 0 or not self.expand > 0:
            raise ConfigError(
                f"blocks={self.blocks}, expand={self.expand}: give at least 0 blocks and a width above 0."
            )


class ResidualBlock(nn.Module):
    """``z += perceptron(norm z)``; the perceptron begins at 0, so that the block begins as the identity.

    dim: D. hidden: width of the perceptron.
    """

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        last = nn.Linear(hidden, dim)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.mlp = nn.Sequential(nn.Linear(dim, hidden), nn.GELU(), last)

    def forward(self, z: Tensor) -> Tensor:
        """z ``(N, D)`` to ``(N, D)``."""
        out: Tensor = z + self.mlp(self.norm(z))
        return out


class ResidualText(StaticText):
    """`StaticText`, and blocks that combine what the words of a text say: more than a sum, far less than attention.

    >>> encoder = ResidualText.from_texts(["a cat sat", "a dog ran"] * 10, ResidualTextConfig(dim=16, blocks=1))
    >>> encoder.encode(["a cat", "a dog"]).shape
    (2, 16)
    """

    kind: ClassVar[str] = "residual-text"
    choices: ClassVar[tuple[str, ...]] = ("residual", "static")
    standard: ClassVar[bool] = False
    config: ResidualTextConfig

    def __init__(
        self,
        config: ResidualTextConfig,
        tokenizer: PreTrainedTokenizerFast,
        *,
        weights: Tensor | None = None,
        prompts: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(config, tokenizer, weights=weights, prompts=prompts)
        hidden = max(1, int(config.expand * config.dim))
        self.blocks = nn.ModuleList(ResidualBlock(config.dim, hidden) for _ in range(config.blocks))

    def pooled(self, data: Data) -> Tensor:
        """What the blocks are given, ``(N, D)``.

        data: as `collate` gives it.
        """
        return super().forward(data)

    def forward(self, data: Data) -> Tensor:
        return self.deepened(self.pooled(data))

    def deepened(self, z: Tensor) -> Tensor:
        """The blocks on ``(N, D)``.

        z: as `pooled` gives it.
        """
        for block in self.blocks:
            z = block(z)
        return z

    def traced(self) -> Traced:
        found = super().traced()
        return replace(found, forward=lambda *given: self.deepened(found.forward(*given)))

    def tokens(self, data: Data) -> tuple[Tensor, Tensor]:
        raise NotImplementedError("A ResidualText gives one embedding per text: its blocks see the mean, not tokens.")

    # --- on disk ---------------------------------------------------------------------------------------------------

    def write(self, folder: Path) -> list[Stage]:
        """sentence-transformers has no such blocks: the folder is read by Counterpoint alone."""
        self.tokenizer.save_pretrained(folder)
        write_weights(folder / "model.safetensors", self.state_dict())
        return []

    @classmethod
    def read(cls, folder: Path, config: Mapping[str, Any]) -> Self:
        encoder = cls(revive(ResidualTextConfig, config), pretrained.tokenizer(folder))
        return fitted(encoder, folder)
