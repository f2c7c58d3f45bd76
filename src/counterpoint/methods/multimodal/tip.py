"""TIP: a table row with holes and its image learn from each other, and hidden cells are filled in from both.

Du et al. 2024, "TIP: Tabular-Image Pre-training for Multimodal Classification with Incomplete Data", ECCV 2024,
arXiv 2407.07582.

For hospitals, marketplaces, catalogues: every record has an image and a table row, cells of which may be missing, in
training as later. Image and row find each other among the batch; pairs that nearly match are told from true ones; half
of the cells are hidden and predicted from the rest and the image. What is kept is the joint encoder (tower
``image+table``), and both sides in their common space (towers ``image`` and ``table``).

    u = image head(pooled image),  w = table head(class token of the table encoder),  f = interaction(table, image)
    itc = contrast(u, w, scale = 1/τ) both ways, of augmented images and corrupted rows
    itm = matching(f of N true pairs, f of 2N pairs with a hard negative on either side), two classes
    mtr = masked_cells(prediction from f of the hidden cells, the cells): half cross entropy, half squared error
    L   = (itc + itm + mtr) / 3

Ablations: ``itm=False``, ``mtr=False`` (the mean is over what is left); in the encoder ``missing="impute"`` puts the
commonest value or the mean in place of a missing cell, ``hide=False`` lets attention look at missing cells.

Published (size ``published``): ResNet-50 at 128 px, width 512, 4 + 4 layers of 8 heads, heads of two layers to 128,
τ 0.1, half of the cells hidden, 0.3 corrupted, Adam 3e-4, batch 256, up to 500 epochs, weight decay 1.5e-6 (cars; 1e-4
for hearts). Here: rows are corrupted by cells of the same batch; only cells that are there are hidden; the class token
and its column's vector are one; weight decay is decoupled (AdamW).
Rows without an image or without a table are left out: it is cells that may be missing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from counterpoint.data.batch import Batch, View
from counterpoint.data.schema import Row
from counterpoint.encoders.base import Encoder
from counterpoint.encoders.fusion import ImageTable, Interaction
from counterpoint.encoders.heads import Projected, unprojected
from counterpoint.encoders.image import ConvNetConfig, ImageEncoder
from counterpoint.encoders.states import Features
from counterpoint.encoders.table import TableTransformer, TableTransformerConfig
from counterpoint.errors import ConfigError
from counterpoint.methods.base import Method, Recipe, method
from counterpoint.objectives.contrast import contrast
from counterpoint.objectives.match import hard_negatives, matching
from counterpoint.objectives.pairing import Diagonal
from counterpoint.objectives.reconstruct import masked_cells
from counterpoint.processes import fetched, gathered, rank, sizes, starts
from counterpoint.train.config import TrainConfig
from counterpoint.views.image import SimCLRViews
from counterpoint.views.table import corrupt_cells, mask_cells


@dataclass(frozen=True, kw_only=True)
class Config:
    """temperature: of the contrast. dim: width of the common space. layers, heads: of the interaction. corrupt: share
    of the cells that come from other rows. hide: share of the cells that are to be filled in. views, augment: how
    images are changed, and the probability that one is. itm, mtr: see above."""

    temperature: float = 0.1
    dim: int = 128
    layers: int = 4
    heads: int = 8
    corrupt: float = 0.3
    hide: float = 0.5
    views: SimCLRViews = field(default_factory=SimCLRViews.stl)
    augment: float = 0.95
    itm: bool = True
    mtr: bool = True

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise ConfigError(f"temperature={self.temperature}: expected more than 0.")
        for name in ("corrupt", "hide", "augment"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name}={getattr(self, name)}: give a share from 0 to 1.")


@method(
    "tip",
    title="TIP: images and incomplete table rows, contrasted, matched and filled in",
    paper="arXiv 2407.07582",
    year=2024,
    modalities=("image", "table"),
    needs=("towers",),
    usual=("towers",),
)
class TIP(Method):
    """An image and its table row find each other, and fill in what is missing. encoders: ``image`` and ``table``."""

    Config = Config

    def __init__(self, encoders: Mapping[str, Encoder], config: Config | None = None) -> None:
        super().__init__(next(iter(encoders.values())), config)
        del self.encoder
        image, table = (unprojected(encoders.get(stream)) for stream in ("image", "table"))
        if len(encoders) != 2 or not isinstance(image, ImageEncoder) or not isinstance(table, TableTransformer):
            held = ", ".join(f"{stream}: {type(e).__name__}" for stream, e in encoders.items())
            raise ConfigError(f"tip takes an image encoder and a table transformer; given were {held}.")
        c = self.config
        self.image = Projected(image, c.dim, hidden=image.dim)
        self.table = Projected(table, c.dim, hidden=table.dim)
        self.interaction = Interaction(table.dim, image.dim, layers=c.layers, heads=c.heads)
        self.matched = nn.Linear(table.dim, 2) if c.itm else None
        sizes, numbers = table.columns.sizes, table.columns.numbers
        self.categories = nn.Linear(table.dim, sum(sizes)) if c.mtr and sizes else None
        self.numbers = nn.Linear(table.dim, 1) if c.mtr and numbers else None

    def towers(self) -> Mapping[str, Encoder]:
        return {"image+table": self.joint, "image": self.image, "table": self.table}

    @property
    def joint(self) -> ImageTable:
        """The encoder of an image and its row together."""
        return ImageTable(self.image.encoder, self.table.encoder, self.interaction)  # type: ignore[arg-type]

    def views(self, rows: Sequence[Row], rng: np.random.Generator) -> Batch:
        """Views ``anchor`` (images), ``positive`` (corrupted rows) and, to be filled in, ``context`` (rows with hidden
        cells). Labels: ``codes``, ``values``, ``hidden``, what was hidden where; ``draw`` (N, 2), chance for the hard
        negatives. Rows without an image or a table are left out."""
        rows = [r for r in rows if r["image"] is not None and r["table"] is not None]
        c = self.config
        images = self.image.collate([r["image"] for r in rows])
        assert isinstance(images, Tensor)
        changed = torch.from_numpy(rng.random(len(rows)) < c.augment)[:, None, None, None]
        images = torch.where(changed, replace(c.views, size=images.shape[-1])(images, rng), images)
        cells: Any = self.table.collate([r["table"] for r in rows])
        views = [View(images, "image", "anchor"), View(corrupt_cells(cells, rng, rate=c.corrupt), "table", "positive")]
        labels = {"draw": torch.from_numpy(rng.random((len(rows), 2)))}
        if c.mtr:
            seen, hidden = mask_cells(cells, rng, rate=c.hide)
            views.append(View(seen, "table", "context"))
            labels |= {"codes": cells["codes"], "values": cells["values"], "hidden": hidden}
        return Batch(tuple(views), torch.tensor([r["row"] for r in rows]), labels)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        v = self.embed(Features(self.image.encoder), batch.one("anchor"))  # type: ignore[arg-type]
        t = self.embed(Features(self.table.encoder), batch.one("positive"))  # type: ignore[arg-type]
        u, w = F.normalize(self.image.projection(v[:, 0]), dim=-1), F.normalize(self.table.projection(t[:, 0]), dim=-1)
        scale = 1 / self.config.temperature
        self.observe(anchor=u, positive=w)
        out = {"itc": contrast(u, w, Diagonal(), scale=scale, both=True)}
        places = v[:, 1:]
        if self.matched is not None:
            out["itm"] = self.match(t, places, (scale * u.detach(), w.detach()), batch.labels["draw"])
        if self.config.mtr:
            hidden = self.embed(Features(self.table.encoder), batch.one("context"))  # type: ignore[arg-type]
            out["mtr"] = self.fill(self.interaction(hidden, places), batch)
        return {name: loss / len(out) for name, loss in out.items()}

    def match(self, t: Tensor, places: Tensor, sides: tuple[Tensor, Tensor], draw: Tensor) -> Tensor:
        """Whether pairs belong together: the N true ones, each image with a wrong row, each row with a wrong image, of
        any process. t: tokens of the rows. places: of the images. sides: scaled embeddings of the images, and those of
        the rows, ``(N, D)`` each. draw: chance, ``(N, 2)``."""
        assert self.matched is not None
        true = self.matched(self.interaction(t, places)[:, 0])
        counts = sizes(len(t), t.device)
        if sum(counts) < 2:
            return true.sum() * 0.0  # there is no other row to be mistaken for: nothing is learned
        own = starts(counts)[rank()] + torch.arange(len(t), device=t.device)
        image, row = sides
        rows = hard_negatives(image @ gathered(row, counts).T, draw[:, 0], own=own)
        images = hard_negatives((gathered(image, counts) @ row.T).T, draw[:, 1], own=own)
        wrong = self.interaction(torch.cat((t, fetched(t, rows))), torch.cat((fetched(places, images), places)))
        return matching(true, self.matched(wrong[:, 0]))

    def fill(self, f: Tensor, batch: Batch) -> Tensor:
        """How well the hidden cells of a batch are predicted from the joint tokens f ``(N, 1 + C, D)``."""
        k = batch.labels["codes"].shape[1]
        cells = f[:, 1:]
        return masked_cells(
            None if self.categories is None else self.categories(cells[:, :k]),
            None if self.numbers is None else self.numbers(cells[:, k:]).squeeze(-1),
            **{name: batch.labels[name] for name in ("codes", "values", "hidden")},
        )

    def encode(self, batch: Batch) -> Tensor:
        """Joint embeddings ``(N, D)`` of the images and rows of a batch."""
        image, row = (cast(Any, batch.one(role).data) for role in ("anchor", "positive"))
        return self.joint({"image": image, **row})

    @classmethod
    def recipe(cls, size: str = "published") -> Recipe:
        if size == "published":
            image: Any = ConvNetConfig.resnet50(128)
            table = TableTransformerConfig(dim=512)
            train = TrainConfig(batch=256, epochs=500, lr=3e-4, weight_decay=1.5e-6, warmup=0.02)
            return Recipe(config=Config(), encoder={"image": image, "table": table}, train=train)
        small = size == "small"
        wide = 64 if small else 16
        net = ConvNetConfig(size=32) if small else ConvNetConfig(size=16, stem_width=8, widths=(8, 16), depths=(1, 1))
        return Recipe(
            config=Config(dim=wide, layers=2 if small else 1, heads=4),
            encoder={"image": net, "table": TableTransformerConfig(dim=wide, layers=2 if small else 1, heads=4)},
            train=TrainConfig(batch=128 if small else 16, epochs=40 if small else 1, lr=1e-3, weight_decay=1e-4),
        )
