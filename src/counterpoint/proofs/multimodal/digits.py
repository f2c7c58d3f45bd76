"""Spoken digits beside written ones: what the proof of `cwcl` is measured on.

The old modality is sound: a small network over log-mel pictures, taught the ten digits on half of the training
recordings. The new one is handwriting: every image is paired with one recording of the other half in which the same
digit is said. Afterwards unseen images are classified by unseen recordings alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from counterpoint.data.rowset import Made
from counterpoint.data.sets.registry import load
from counterpoint.encoders.base import Encoder
from counterpoint.encoders.heads import Projected
from counterpoint.encoders.image import ConvNet, ConvNetConfig
from counterpoint.modalities.audio import log_mel, recording

BANDS, WINDOW, HOP, SIDE = 40, 256, 64, 32
"""Mel bands; samples of a frame (32 ms at 8 kHz) and between two; side of the picture in pixels."""


class Known(Encoder):
    """An encoder whose outputs were computed before: its items are embeddings. A frozen tower that costs nothing."""

    modality: ClassVar[str] = "audio"
    device = torch.device("cpu")

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def collate(self, items: Sequence[Any], role: str | None = None) -> Tensor:
        return torch.from_numpy(np.stack(items))

    def forward(self, data: Any) -> Tensor:
        return data  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Digits:
    """pairs: to train on. images, digits: unseen, ``(N,)``. heard ``(M, D)`` and said ``(M,)``: unseen recordings."""

    pairs: Made
    images: list[Any]
    digits: np.ndarray
    heard: np.ndarray
    said: np.ndarray


def digits(seed: int, *, smoke: bool = False) -> Digits:
    """The data of one seed: it chooses the half that teaches the tower, the images, and who is paired with whom."""
    rng = np.random.default_rng(seed)
    count, steps = (256, 10) if smoke else (5400, 600)
    (sound, said), (unheard, unsaid) = recordings("train"), recordings("test")
    order = rng.permutation(len(said))
    taught, paired = order[::2], order[1::2]
    torch.manual_seed(seed)
    tower = classifier(sound[taught], torch.from_numpy(said[taught]), rng, steps=steps)
    # Minus the mean: what all recordings share would make all of them alike.
    mean = tower(sound[taught]).mean(0)
    known, heard = ((tower(x) - mean).numpy() for x in (sound[paired], unheard))

    train: Any = load("mnist", "train")
    test: Any = load("mnist", "test")
    chosen = rng.permutation(len(train))[:count].tolist()
    written = np.array(train["label"])[chosen]
    partners = [rng.choice(np.flatnonzero(said[paired] == digit)) for digit in written]
    images = train.select(chosen)["image"]
    rows = [{"row": i, "image": image, "audio": known[p]} for i, (image, p) in enumerate(zip(images, partners))]
    return Digits(Made(rows), list(test["image"]), np.array(test["label"]), heard, unsaid)


def zero_shot(z: np.ndarray, found: Digits, *, draws: int = 200) -> dict[str, float]:
    """Accuracies of unseen images ``(N, D)`` of unit length: by the mean of each digit's recordings, and by one each.

    The latter over ``draws`` choices of the ten recordings: their mean, and the 5th percentile of the luckless ones.
    """
    heard = found.heard / np.linalg.norm(found.heard, axis=1, keepdims=True)
    of = [np.flatnonzero(found.said == digit) for digit in range(10)]

    def accuracy(prototypes: np.ndarray) -> float:
        unit = prototypes / np.linalg.norm(prototypes, axis=1, keepdims=True)
        return float(((z @ unit.T).argmax(1) == found.digits).mean())

    rng = np.random.default_rng(0)
    single = [accuracy(heard[[rng.choice(members) for members in of]]) for _ in range(draws)]
    return {
        "accuracy by mean prototypes": accuracy(np.stack([heard[members].mean(0) for members in of])),
        "accuracy by one example": float(np.mean(single)),
        "accuracy by one example, 5th percentile": float(np.percentile(single, 5)),
    }


def classifier(pictures: Tensor, said: Tensor, rng: np.random.Generator, *, steps: int, dim: int = 64) -> Projected:
    """A tower that tells the ten digits apart, in eval mode and without gradient."""
    tower = Projected(ConvNet(ConvNetConfig(size=SIDE, channels=1, stem_width=16, widths=(16, 32, 64))), dim).train()
    head = nn.Linear(dim, 10)
    optimizer = torch.optim.AdamW([*tower.parameters(), *head.parameters()], lr=2e-3)
    for _ in range(steps):
        some = torch.from_numpy(rng.integers(len(said), size=64))
        x = torch.roll(pictures[some], int(rng.integers(-3, 4)), -1)  # said a little earlier or later
        optimizer.zero_grad()
        F.cross_entropy(head(tower(x)), said[some]).backward()
        optimizer.step()
    return tower.eval().requires_grad_(False)


def recordings(split: str) -> tuple[Tensor, np.ndarray]:
    """Log-mel pictures ``(N, 1, SIDE, SIDE)`` in [0, 1], each stretched to its own range, and the digits said."""
    clips: Any = load("spoken-digits", split)
    pictures = []
    for samples, rate in zip(clips["audio"], clips["rate"]):
        x = torch.from_numpy(log_mel(recording(samples, rate), bands=BANDS, window=WINDOW, hop=HOP)).T
        x = (x - x.min()) / (x.max() - x.min()).clamp_min(1e-6)
        pictures.append(F.interpolate(x[None, None], (SIDE, SIDE), mode="bilinear", antialias=True)[0].clamp(0, 1))
    return torch.stack(pictures), np.array(clips["label"])
