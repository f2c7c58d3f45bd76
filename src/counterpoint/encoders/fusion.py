"""Encoders of two things at once: table rows together with their image.

Source: Du et al. 2024 (TIP), arXiv 2407.07582.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from torch import Tensor, nn

from counterpoint.data.batch import Data
from counterpoint.encoders.base import Encoder, Traced, find, seeded
from counterpoint.encoders.blocks import Block, small_weights
from counterpoint.encoders.image import ConvNet, ImageEncoder
from counterpoint.encoders.layout import Stage, read_weights, write_weights
from counterpoint.encoders.table import TableTransformer
from counterpoint.errors import ConfigError, ItemError


class Interaction(nn.Module):
    """Tokens of one thing that look at each other and across to those of another, in every layer.

    dim: width of the tokens. other: width of the others. layers, heads, mlp: as in a transformer.

    >>> import torch
    >>> interaction = Interaction(16, 8, layers=1, heads=2)
    >>> interaction(torch.randn(2, 5, 16), torch.randn(2, 7, 8)).shape
    torch.Size([2, 5, 16])
    """

    def __init__(self, dim: int, other: int, *, layers: int = 4, heads: int = 8, mlp: float = 4.0) -> None:
        super().__init__()
        self.bridge = nn.Sequential(nn.Linear(other, dim), nn.LayerNorm(dim))
        self.blocks = nn.ModuleList(Block(dim, heads, mlp=mlp, cross=True) for _ in range(layers))
        self.norm = nn.LayerNorm(dim)
        small_weights(self)

    def forward(self, x: Tensor, other: Tensor) -> Tensor:
        """x: (N, T, dim). other: (N, S, other). Returns (N, T, dim)."""
        other = self.bridge(other)
        for block in self.blocks:
            x = block(x, other=other)
        out: Tensor = self.norm(x)
        return out


@dataclass(frozen=True, kw_only=True)
class ImageTableConfig:
    """layers, heads, mlp: of the interaction. image, table: kind and configuration of the encoders below."""

    layers: int = 4
    heads: int = 8
    mlp: float = 4.0
    image: dict[str, Any] = field(default_factory=dict)
    table: dict[str, Any] = field(default_factory=dict)


class ImageTable(Encoder):
    """One embedding of an image and its table row: the class token of the row, which has looked at both.

    An item is a mapping with ``image`` and ``table``, as a row of a data set is. Cells may be missing, the image may
    not.

    image, table: the encoders of both. interaction: what looks at both.

    >>> from counterpoint.modalities import image, table
    >>> encoder, rng = ImageTable.example(), np.random.default_rng(0)
    >>> encoder.encode([{"image": image.example(rng), "table": table.example(rng)}]).shape[0]
    1
    """

    kind: ClassVar[str] = "image-table"
    modality: ClassVar[str] = "image+table"

    def __init__(self, image: ImageEncoder, table: TableTransformer, interaction: Interaction) -> None:
        super().__init__()
        if not isinstance(image, ImageEncoder) or not isinstance(table, TableTransformer):
            raise ConfigError(
                f"An image encoder and a table transformer are joined; {type(image).__name__} and "
                f"{type(table).__name__} were given."
            )
        self.image, self.table, self.interaction = image, table, interaction
        self.dim = table.dim

    @classmethod
    def example(cls, seed: int = 0) -> Self:
        image, table = ConvNet.example(seed), TableTransformer.example(seed)
        with seeded(seed):
            return cls(image, table, Interaction(table.dim, image.dim, layers=1, heads=2))

    def traced(self) -> Traced:
        return self.table.traced()  # which has no ONNX form

    @property
    def config(self) -> ImageTableConfig:  # type: ignore[override]
        first = self.interaction.blocks[0]
        assert isinstance(first, Block)
        wide = first.perceptron[1]
        assert isinstance(wide, nn.Linear)
        return ImageTableConfig(
            layers=len(self.interaction.blocks),
            heads=first.attention.heads,
            mlp=wide.out_features / wide.in_features,
            image={"kind": self.image.kind, "config": asdict(self.image.config)},
            table={"kind": self.table.kind, "config": asdict(self.table.config)},
        )

    def collate(self, items: Sequence[Mapping[str, Any]], role: str | None = None) -> Data:
        for place, item in enumerate(items):
            if not isinstance(item, Mapping):
                given = type(item).__name__
                said = f"Item {{place}} is of the type {given}. Give mappings with both, image and table."
                raise ItemError(said, place, len(items))
            if item.get("image") is None or item.get("table") is None:
                lacks = "image" if item.get("image") is None else "table"
                raise ItemError(
                    f"An item has no {lacks} (item {{place}}). Give mappings with both, image and table; cells of the "
                    "table may be missing (None), the image may not.",
                    place,
                    len(items),
                )
        images = self.image.collate([item["image"] for item in items])
        return {"image": images, **self.table.collate([item["table"] for item in items])}

    def lengths(self, items: Sequence[Mapping[str, Any]]) -> np.ndarray:
        both: np.ndarray = self.image.lengths(items) + self.table.lengths(items)
        return both

    def forward(self, data: Data) -> Tensor:
        return self.tokens(data)[0][:, 0]

    def tokens(self, data: Data) -> tuple[Tensor, Tensor]:
        """The class token and the cells ``(N, 1 + C, D)`` after they have looked at the image, and which are there."""
        assert not isinstance(data, Tensor)
        cells, there = self.table.tokens(data)
        return self.interaction(cells, self.image.tokens(data["image"])[0]), there

    def write(self, folder: Path) -> list[Stage]:
        for name, encoder in (("image", self.image), ("table", self.table)):
            (folder / name).mkdir()
            encoder.write(folder / name)
        write_weights(folder / "interaction.safetensors", self.interaction.state_dict())
        return []

    @classmethod
    def read(cls, folder: Path, config: Mapping[str, Any]) -> Self:
        image, table = (find(config[n]["kind"]).read(folder / n, config[n]["config"]) for n in ("image", "table"))
        assert isinstance(image, ImageEncoder)
        assert isinstance(table, TableTransformer)
        shape = {name: config[name] for name in ("layers", "heads", "mlp")}
        interaction = Interaction(table.dim, image.dim, **shape)
        interaction.load_state_dict(read_weights(folder / "interaction.safetensors"))
        return cls(image, table, interaction)
