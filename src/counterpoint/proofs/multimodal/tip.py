"""TIP with and without the reconstruction of cells: joint embeddings of furniture, cells of which go missing.

The regime was looked at with seeds 10 and 11. It is small: a random forest on the raw cells is right in 0.53 of the
test rows with none missing, more often than these probes. In one trial, means and commonest values in place of the
learned token and the hidden keys did as well, and houses (535 rows, 4 columns) taught nothing: neither is claimed.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from counterpoint.data.infer import infer
from counterpoint.data.rows import Rows
from counterpoint.data.schema import Row
from counterpoint.data.sets.registry import find, load
from counterpoint.encoders.image import ConvNet, ConvNetConfig
from counterpoint.encoders.table import TableTransformer, TableTransformerConfig
from counterpoint.evaluate.missingness import missingness
from counterpoint.methods.multimodal.tip import TIP, Config
from counterpoint.modalities.image import pixels
from counterpoint.modalities.table import Columns
from counterpoint.proofs.base import Proof, train
from counterpoint.views.image import SimCLRViews

ARMS: dict[str, dict[str, Any]] = {"tip": {}, "no reconstruction": {"mtr": False}}
PIXELS = 32
RATES = (0.0, 0.5, 0.7, 0.9)


def furniture() -> tuple[list[Row], list[Row], np.ndarray, np.ndarray]:
    """Rows to learn from and to test on, as the set is split, and the rooms that the things are for."""
    found: Any = load("furniture")
    rows = list(Rows(found, infer(found, columns=find("furniture").columns)))
    arrays = pixels([row["image"] for row in rows], PIXELS).mul(255).byte().permute(0, 2, 3, 1).numpy()
    rows = [{**row, "image": picture} for row, picture in zip(rows, arrays)]  # decoded once, not in every epoch
    labels = np.unique(found["category"], return_inverse=True)[1]
    train, test = (np.flatnonzero(np.array(found["split"]) == part) for part in ("train", "test"))
    return [rows[i] for i in train], [rows[i] for i in test], labels[train], labels[test]


def run(arm: str, seed: int, *, smoke: bool) -> dict[str, float]:
    known, unseen, labels, truth = furniture()
    if smoke:
        known, unseen, labels, truth = known[::5], unseen[::5], labels[::5], truth[::5]
    names = known[0]["table"]
    columns = Columns.fit({name: [row["table"][name] for row in known] for name in names})
    torch.manual_seed(seed)
    image = ConvNet(ConvNetConfig(size=PIXELS, stem_width=16, widths=(16, 32, 64)))
    shape = TableTransformerConfig(dim=32, layers=2, heads=4)
    table = TableTransformer(replace(shape, categories=columns.categories, numbers=columns.numbers))
    config = Config(dim=32, layers=2, heads=4, views=SimCLRViews(crop=(0.5, 1.0)), **ARMS[arm])
    trained = TIP({"image": image, "table": table}, config)
    train(trained, known, batch=128, epochs=2 if smoke else 50, lr=2e-3, stop_on_collapse=False, seed=seed)
    rates = (0.0, 0.9) if smoke else RATES
    curve = missingness(trained.joint, known, labels, unseen, truth, rates=rates, draws=1 if smoke else 4, seed=seed)
    return {
        "probe accuracy, 50 to 90 % of cells missing": float(np.mean([curve[rate] for rate in rates if rate])),
        "probe accuracy, 90 % of cells missing": curve[0.9],
        "probe accuracy, nothing missing": curve[0.0],
    }


proof = Proof(
    TIP,
    claim="On furniture of a catalogue, filling in hidden cells from the rest and the image makes joint embeddings "
    "that a linear probe reads better when half to nine tenths of the cells are missing.",
    arms={
        "tip": "contrast, matching and the reconstruction of half of the cells",
        "no reconstruction": "contrast and matching alone",
    },
    metrics={
        "probe accuracy, 50 to 90 % of cells missing": True,
        "probe accuracy, 90 % of cells missing": True,
        "probe accuracy, nothing missing": True,
    },
    data=("furniture",),
    run=run,
    full="Cars with 286 classes and 17 columns, ResNet-50 at 128 px, 500 epochs: probes at 0, 0.3, 0.5, 0.7 and 0.9 of "
    "the cells missing, with and without the reconstruction. A day on one large GPU.",
    minutes=4,
)
