"""An encoder of table rows: a transformer over their cells that knows which of them are missing.

Source: Du et al. 2024 (TIP), arXiv 2407.07582.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from torch import Tensor, nn

from counterpoint.data import objects
from counterpoint.data.batch import Data
from counterpoint.encoders.base import Encoder, Source, Traced, seeded, small_rows
from counterpoint.encoders.blocks import Block, small_weights
from counterpoint.errors import ConfigError, ItemError, ModelError
from counterpoint.modalities.table import Cells, Columns, Table


@dataclass(frozen=True, kw_only=True)
class TableTransformerConfig:
    """dim, layers, heads, mlp: width, layers, attention heads, width of the inner layer as a multiple of ``dim``.

    categories, numbers: the columns, see `counterpoint.modalities.table.Columns`; empty: those of its rows.
    missing: what stands for a missing cell: a learned ``token``, or the column's commonest value or mean (``impute``).
    hide: nothing looks at a missing cell but that cell itself, so that what is known is all that counts.
    """

    dim: int = 128
    layers: int = 4
    heads: int = 8
    mlp: float = 4.0
    missing: Literal["token", "impute"] = "token"
    hide: bool = True
    categories: dict[str, list[str]] = field(default_factory=dict)
    numbers: dict[str, list[float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.layers < 1:
            raise ConfigError(f"layers={self.layers}: expected at least 1.")
        if self.missing not in ("token", "impute"):
            raise ConfigError(f"missing={self.missing!r}: type token or impute.")

    @property
    def columns(self) -> Columns:
        """The columns, as `counterpoint.modalities.table` reads them."""
        return Columns(categories=self.categories, numbers=self.numbers)


class TableTransformer(Encoder):
    """The embedding is that of a class token, which looks at every cell that is there.

    A category is a row of one table of all categories, a number times a vector (plus a bias) that all numbers share; a
    learned vector for each column is added, and the sum is normalised. Rows without any cell have an embedding, too.

    >>> rows = [{"age": 30, "city": "Rome"}, {"age": 40, "city": None}]
    >>> columns = {"categories": {"city": ["Oslo", "Rome"]}, "numbers": {"age": [35.0, 5.0]}}
    >>> TableTransformer(TableTransformerConfig(dim=16, layers=1, heads=2, **columns)).encode(rows).shape
    (2, 16)
    """

    kind: ClassVar[str] = "table-transformer"
    modality: ClassVar[str] = "table"
    choices: ClassVar[tuple[str, ...]] = ("transformer",)
    standard: ClassVar[bool] = True
    config: TableTransformerConfig

    def __init__(self, config: TableTransformerConfig) -> None:
        super().__init__()
        self.config, self.columns, self.dim = config, config.columns, config.dim
        if not len(self.columns):
            raise ConfigError("A table encoder needs columns: give it those of Columns.fit(...).")
        dim = config.dim
        sizes = self.columns.sizes
        self.value = nn.Embedding(sum(sizes), dim) if sizes else None
        self.number = nn.Linear(1, dim) if self.columns.numbers else None
        self.token = nn.Embedding(1, dim) if config.missing == "token" else None
        self.column = nn.Embedding(len(self.columns) + 1, dim)  # the first is the class token's
        self.norm = nn.LayerNorm(dim)
        self.blocks = nn.ModuleList(Block(dim, config.heads, mlp=config.mlp) for _ in range(config.layers))
        small_weights(self)
        first = np.cumsum([0, *sizes[:-1]]) if sizes else np.zeros(0)  # of each column: its commonest value
        self.register_buffer("commonest", torch.from_numpy(first.astype(np.int64)), persistent=False)

    @classmethod
    def build(cls, config: Any, rows: Source) -> Self:
        if not len(config.columns) and (cells := rows.known(cls.modality).cells):
            config = replace(config, **vars(Columns.fit(cells)))
        return cls(config)

    @classmethod
    def example(cls, seed: int = 0) -> Self:
        with seeded(seed):
            return cls.build(TableTransformerConfig(dim=16, layers=2, heads=2), small_rows(cls.modality))

    def traced(self) -> Traced:
        raise ModelError(
            "An encoder of table rows has no ONNX form: it reads raw cells, some of which may be missing. Load its "
            "folder with counterpoint.encoders.folder.load instead."
        )

    def listed(self, items: Any) -> Sequence[Any]:
        """Also a whole table: a data frame, an Arrow table, a `datasets.Dataset`."""
        return objects.dataset(items).to_list() if objects.is_table(items) else super().listed(items)

    def check(self, items: Sequence[Any]) -> None:
        """Rows are mappings from columns to cells."""
        for place, row in enumerate(items):
            if not isinstance(row, Mapping):
                given = type(row).__name__
                said = f"Row {{place}} is of the type {given}, where a mapping from columns to cells is expected."
                raise ItemError(said, place, len(items))

    def collate(self, items: Sequence[Table], role: str | None = None) -> Cells:
        """Raw rows, see `counterpoint.modalities.table.Columns.read`."""
        self.check(items)
        return self.columns.read(items)

    def lengths(self, items: Sequence[Table]) -> np.ndarray:
        """Cells and the class token."""
        return np.full(len(items), len(self.columns) + 1, dtype=np.int64)

    def forward(self, data: Data) -> Tensor:
        return self.tokens(data)[0][:, 0]

    def tokens(self, data: Data) -> tuple[Tensor, Tensor]:
        """The class token, then every cell in the order of `Columns.names`: ``(N, 1 + C, D)``, and which of them are
        there ``(N, 1 + C)`` bool.

        data: as `collate` gives it.
        """
        assert not isinstance(data, Tensor)
        missing = data["missing"]
        there = torch.cat((missing.new_ones(len(missing), 1), ~missing), 1)
        x = self._cells(data["codes"], data["values"], missing)
        x = self.norm(torch.cat((x.new_zeros(len(x), 1, self.dim), x), 1) + self.column.weight)
        seen = None
        if self.config.hide:
            itself = torch.eye(there.shape[1], dtype=torch.bool, device=there.device)
            seen = there.unsqueeze(1) | itself
        for block in self.blocks:
            x = block(x, seen=seen)
        return x, there

    def _cells(self, codes: Tensor, values: Tensor, missing: Tensor) -> Tensor:
        """``(N, C, D)``, before columns are told apart."""
        k = len(self.columns.categories)
        if self.token is None:  # numbers are standardised: their mean is 0
            codes = torch.where(missing[:, :k], self.get_buffer("commonest"), codes)
            values = values.masked_fill(missing[:, k:], 0.0)
        cells = [self.value(codes)] if self.value is not None else []
        cells += [self.number(values.unsqueeze(-1))] if self.number is not None else []
        x = torch.cat(cells, 1)
        return x if self.token is None else torch.where(missing.unsqueeze(-1), self.token.weight, x)
