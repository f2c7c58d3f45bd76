"""OBoW: from a part of an image, foretell which visual words the whole of it holds; the words change as one learns.

Gidaris et al. 2021, "OBoW: Online Bag-of-Visual-Words Generation for Self-Supervised Learning", arXiv 2012.11552.

For whoever has unlabelled images and cares for what is where in them (detection, few examples per class, small
batches). A teacher, the moving average of the student, sees the whole image; each place of its feature map is softly
assigned to K words, and the image's bag of words is the largest assignment over the places. The student, which sees
small distorted crops, predicts the bag. There are no negatives and no pairs: what keeps it from collapsing is that the
words are drawn from the images themselves, a local feature of every image replacing the oldest words at every step.

    q_k(u) = softmax_k( -inv_delta / mu · |F(u) - V_k|² ),   y_k ∝ max_u q_k(u),   Σ_k y_k = 1
    L = Σ_sizes mean_crops mean_levels  -Σ_k y_k log softmax_k( kappa f·G(V)_k )

mu is the running mean of min_k |F(u) - V_k|², which makes inv_delta free of scale. f is the mean of the student's last
map, not normalised. G makes unit-length weights from the words ("dynamic head"), since word k means something else
after a while. The teacher normalises by its batch; its momentum rises from 0.99 to 1 by half a cosine.

Published: ResNet-50, K = 8,192, maps of the last two stages without their border, inv_delta 15, kappa 8, two crops of
160² and five patches of 96², SGD 0.03 with cosine decay, batch 256, 200 epochs. Each stage's vocabulary and head are
its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from counterpoint.data.batch import Batch, View
from counterpoint.data.schema import Row
from counterpoint.encoders.heads import DynamicHead
from counterpoint.encoders.image import ConvNet, ConvNetConfig
from counterpoint.errors import ConfigError
from counterpoint.memory.queue import Queue
from counterpoint.memory.teacher import Teacher
from counterpoint.methods.base import Method, Recipe, method
from counterpoint.modalities.image import pixels
from counterpoint.objectives.reduce import at_least_float32, reduced
from counterpoint.processes import drawn, total
from counterpoint.train.config import TrainConfig
from counterpoint.views.image import PatchGrid, SimCLRViews

Levels = list[Tensor]
"""One tensor for each level, the coarsest map last."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """words: K of each vocabulary. levels: how many of the last stages. inv_delta: sharpness of the assignment. kappa:
    scale of the predictions. momentum: of the teacher at the start; 1 keeps it as it began. decay: of mu.

    source: side in pixels that images are brought to before views are drawn (0: the encoder's). crop, crops: views of
    the student, and how many. patches: further ones from a grid (None: none). border: cells cut off each side of a map.
    head, pool, assignment: dynamic, max and soft are the method; the others show what these are good for.
    """

    words: int = 8192
    levels: int = 2
    inv_delta: float = 15.0
    kappa: float = 8.0
    momentum: float = 0.99
    decay: float = 0.99
    source: int = 256
    crop: SimCLRViews = field(default_factory=lambda: SimCLRViews(size=160, crop=(0.08, 0.6), blur=0.5))
    crops: int = 2
    patches: PatchGrid | None = field(default_factory=lambda: PatchGrid(view=SimCLRViews(size=256, crop=(0.6, 1.0))))
    border: int = 1
    head: Literal["dynamic", "fixed"] = "dynamic"
    pool: Literal["max", "mean"] = "max"
    assignment: Literal["soft", "hard"] = "soft"

    def __post_init__(self) -> None:
        if self.words < 2 or self.levels < 1 or self.crops < 1:
            raise ConfigError(f"words={self.words}, levels={self.levels}, crops={self.crops}: at least 2, 1 and 1.")
        if not (self.inv_delta > 0 and self.kappa > 0):
            raise ConfigError(f"inv_delta={self.inv_delta}, kappa={self.kappa}: both are above 0.")


@method(
    "obow",
    title="OBoW: bags of visual words, foretold while the words change",
    paper="arXiv 2012.11552",
    year=2021,
    modalities=("image",),
    needs=("items",),
)
class OBoW(Method):
    """A student that sees crops predicts the bag of words which a teacher finds in the whole image."""

    Config = Config
    encoder: ConvNet
    mu: Tensor

    def __init__(self, encoder: ConvNet, config: Config | None = None) -> None:
        super().__init__(encoder, config)
        c = self.config
        if not hasattr(encoder, "stages"):
            raise ConfigError(
                f"OBoW reads the feature maps of a convolutional network; {type(encoder).__name__} has none. Leave "
                "--encoder out, or name a ResNet."
            )
        if c.levels > len(encoder.config.widths):
            raise ConfigError(f"levels={c.levels}, but the encoder has {len(encoder.config.widths)} stages.")
        self.widths = encoder.config.widths[-c.levels :]
        self.teacher = Teacher(encoder, momentum=c.momentum, schedule="cosine", copy_buffers=False)
        self.vocabulary = nn.ModuleList(vocabulary(c.words, width, seed=i) for i, width in enumerate(self.widths))
        fixed = c.head == "fixed"
        self.heads = nn.ModuleList(
            FixedHead(c.words, encoder.dim) if fixed else DynamicHead(width, encoder.dim) for width in self.widths
        )
        self.register_buffer("mu", torch.full((c.levels,), 0.5))
        self.steps = 1
        self._seen: dict[int, tuple[Batch, Tensor, Levels]] = {}

    def before_training(self, steps: int) -> None:
        self.steps = steps

    def views(self, rows: Sequence[Row], rng: np.random.Generator) -> Batch:
        c, size = self.config, self.encoder.config.size
        images = pixels([r["image"] for r in rows], c.source or size, channels=self.encoder.config.channels)
        edge = (images.shape[-1] - size) // 2
        whole = images[..., edge : edge + size, edge : edge + size]
        flipped = torch.from_numpy(rng.random(len(rows)) < 0.5)
        whole = torch.where(flipped[:, None, None, None], whole.flip(-1), whole)
        crops = torch.stack([c.crop(images, rng) for _ in range(c.crops)], 1).flatten(0, 1)
        stream, n = self.encoder.modality, torch.arange(len(rows))
        views = [View(whole, stream, "context"), View(crops, stream, "anchor", owner=n.repeat_interleave(c.crops))]
        if c.patches is not None:
            owner = n.repeat_interleave(c.patches.count)
            views.append(View(c.patches(images, rng), stream, "anchor", owner=owner))
        return Batch(tuple(views), torch.tensor([r["row"] for r in rows]))

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        c = self.config
        # The student predicts with the words as they are; those of this batch come in after the step.
        words = [queue.snapshot() for queue in self.vocabulary]
        weights = [head(v) for head, v in zip(self.heads, words)]
        with torch.no_grad():
            maps = self.maps(batch.one("context"))
            squares = [distances(m, v) for m, v in zip(maps, words)]
            mu = torch.lerp(nearest(squares), self.mu, c.decay)
            bags = [bag(d * (c.inv_delta / m), pool=c.pool, assignment=c.assignment) for d, m in zip(squares, mu)]
        self._seen[id(batch)] = batch, mu, [local(m) for m in maps]
        out: dict[str, Tensor] = {}
        for i, view in enumerate(batch.all("anchor")):
            f = self.embed(self.encoder, view)
            logits = [c.kappa * f @ w.T for w in weights]
            parts = [-(y[view.owner] * s.log_softmax(1)).sum(1) for y, s in zip(bags, logits)]
            out[("crops", "patches")[i]] = reduced(torch.stack(parts).mean(0), "mean")
            if i == 0:  # the bags themselves show a collapse, as they then are the same for every image
                self.observe(anchor=bags[-1], positive=logits[-1].softmax(1)[:: c.crops])
        return out

    def maps(self, view: View) -> Levels:
        """The teacher's feature maps of the last stages, without their border, in float32.

        view: of images."""
        b = self.config.border
        maps = self.teacher.model.stages(view.data)[-self.config.levels :]
        for m in maps:
            if min(m.shape[2:]) < 2 * b + 3:
                raise ConfigError(
                    f"A feature map of {m.shape[2]}×{m.shape[3]} leaves nothing for local averages of 3×3 within a "
                    f"border of {b}. Use larger images or fewer stages, or set border=0."
                )
        return [at_least_float32(m[..., b:-b, b:-b] if b else m) for m in maps]

    def after_step(self, step: int) -> None:
        self.teacher.update(self.encoder, step=step, steps=self.steps)
        seen = list(self._seen.values())
        self.mu.copy_(torch.stack([mu for _, mu, _ in seen]).mean(0))
        for i, queue in enumerate(self.vocabulary):
            for _, _, words in seen:  # one batch after the other, each of all processes
                queue.push(words[i])
        self._seen.clear()

    @classmethod
    def recipe(cls, size: str = "published") -> Recipe:
        if size == "published":
            return Recipe(
                config=Config(),
                encoder=ConvNetConfig.resnet50(224),
                train=TrainConfig(
                    batch=256,
                    epochs=200,
                    optimizer="sgd",
                    lr=0.03,
                    lr_end=1e-3,
                    warmup=0.05,
                    momentum=0.9,
                    weight_decay=1e-4,
                    clip=0.0,
                ),
            )
        small = size == "small"
        config = Config(
            words=256 if small else 32,
            levels=1,
            momentum=0.9,  # a few hundred steps: at 0.99 the teacher stays half of what it was drawn as
            inv_delta=10.0,
            kappa=5.0,
            source=0,
            crop=SimCLRViews(size=24, crop=(0.08, 0.6)),
            patches=None,
        )
        widths, depths = ((64, 128), (1, 2)) if small else ((16, 16), (1, 1))
        return Recipe(
            config=config,
            encoder=ConvNetConfig(stem_width=32 if small else 8, widths=widths, depths=depths),
            train=TrainConfig(batch=64 if small else 16, epochs=12 if small else 1, lr=1e-3, weight_decay=1e-4),
        )


class FixedHead(nn.Module):
    """One learned weight of unit length for the number of a word, whatever the word is.

    words: how many. dim: of a feature."""

    def __init__(self, words: int, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(words, dim))

    def forward(self, words: Tensor) -> Tensor:
        """``(K, D)``, whatever the words ``(K, C)`` are."""
        return F.normalize(self.weight, dim=-1)


def vocabulary(words: int, dim: int, *, seed: int) -> Queue:
    """A queue of words ``(words, dim)``, full of positive noise until features of images have taken its place.

    seed: of the noise."""
    queue = Queue(words, dim, seed=seed)
    queue.vectors.normal_(generator=torch.Generator().manual_seed(seed)).relu_()
    return queue


def distances(maps: Tensor, words: Tensor) -> Tensor:
    """Squared distances ``(N, U, K)`` of the U places of maps ``(N, C, H, W)`` to words ``(K, C)``, in float32."""
    places = at_least_float32(maps).flatten(2).transpose(1, 2)
    with torch.autocast(maps.device.type, enabled=False):
        squares = places.square().sum(2, keepdim=True) + words.square().sum(1) - 2 * places @ words.to(places).T
    return squares.clamp_min(0)


def nearest(squares: Levels) -> Tensor:
    """Mean over all places of all processes of the distance to the nearest word, one for each level ``(L,)``.

    squares: distances of each level, as of `distances`."""
    found = torch.stack([torch.stack((d.amin(2).sum(), d.new_tensor(d[..., 0].numel()))) for d in squares])
    sums = total(found)
    return (sums[:, 0] / sums[:, 1].clamp_min(1)).clamp_min(torch.finfo(sums.dtype).tiny)


def bag(energies: Tensor, *, pool: str = "max", assignment: str = "soft") -> Tensor:
    """Bags of words ``(N, K)``, rows summing to 1, of the energies ``(N, U, K)`` of each place for each word.

    soft: each place is spread over the words by ``softmax(-energies)``. hard: it counts for its nearest word alone.
    max: a word counts as much as at its best place, so that what fills the picture counts no more than a detail. pool:
    max or mean over places. assignment: soft or hard.
    """
    if assignment == "soft":
        q = (-energies).softmax(2)
    else:
        q = F.one_hot(energies.argmin(2), energies.shape[2]).to(energies)
    y = q.amax(1) if pool == "max" else q.mean(1)
    return y / y.sum(1, keepdim=True)


def local(maps: Tensor) -> Tensor:
    """One feature ``(N, C)`` of each image: the mean around a place of its map drawn at random.

    maps: ``(N, C, H, W)``."""
    means = F.avg_pool2d(maps, 3, stride=1).flatten(2)
    place = drawn(lambda n: torch.randint(means.shape[2], (n,)), len(means), means.device).to(means.device)
    return means[torch.arange(len(means), device=means.device), :, place]
