"""Views of images: crops, flips, colour, blur, solarisation, of whole batches with one draw per image.

Images are float32 ``(N, C, H, W)`` in [0, 1] throughout; mean and deviation are the encoder's business. Every
function is pure: all chance comes from the numpy generator it is given, so a batch can be augmented in any
thread and drawn again when a run resumes. That is why these are our own few lines and not kornia's
augmentation modules, which draw from torch's global generator (and take three times as long on a CPU); the
tests hold them against kornia's functions, factor by factor.

Colours (saturation, hue, greyscale) need red, green and blue: with any other number of channels these steps
are skipped, and the rest treats all channels alike.

Source: Chen et al. 2020, arXiv 2002.05709 (SimCLR, appendix A); solarisation: Grill et al. 2020, arXiv 2006.07733.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from counterpoint.errors import ConfigError, DataError
from counterpoint.modalities.image import luma, pixels
from counterpoint.views.base import Collate
from counterpoint.views.features import Cheap, Matrix, scaled


@dataclass(frozen=True, kw_only=True)
class SimCLRViews:
    """The recipe of SimCLR and its heirs. Calling it gives one view, ``(N, C, size, size)`` of ``(N, C, H, W)``.

    size: side of the view in pixels (None: the height of the input). crop, ratio: share of the area and width
    / height of the random crop. flip, jitter, grey, blur, solarise: probabilities. brightness, contrast,
    saturation: largest relative change. hue: largest rotation in turns (0.5 reaches every colour). sigma:
    deviation of the blur in pixels. The four changes of colour come in an order that is drawn once per call
    (in the original: once per image).

    >>> images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    >>> views = SimCLRViews(size=16)
    >>> one, other = (views(images, np.random.default_rng(seed)) for seed in (0, 1))
    >>> one.shape, bool(torch.equal(one, other))
    (torch.Size([2, 3, 16, 16]), False)
    """

    size: int | None = None
    crop: tuple[float, float] = (0.2, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip: float = 0.5
    jitter: float = 0.8
    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.4
    hue: float = 0.1
    grey: float = 0.2
    blur: float = 0.0
    sigma: tuple[float, float] = (0.1, 2.0)
    solarise: float = 0.0

    def __post_init__(self) -> None:
        for name in ("crop", "ratio", "sigma"):
            least, largest = getattr(self, name)
            if not 0 < least <= largest or (name == "crop" and largest > 1):
                raise ConfigError(
                    f"{name}=({least}, {largest}): give 0 < least <= largest{' <= 1' * (name == 'crop')}."
                )
        for name in ("flip", "jitter", "grey", "blur", "solarise", "brightness", "contrast", "saturation"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name}={getattr(self, name)}: give a number from 0 to 1.")
        if not 0 <= self.hue <= 0.5:
            raise ConfigError(f"hue={self.hue} turns: give a number from 0 to 0.5.")

    @classmethod
    def cifar(cls, size: int | None = None) -> SimCLRViews:
        """Small pictures: half the strength of colour, no blur (SimCLR, appendix B.9)."""
        return cls(size=size)

    @classmethod
    def stl(cls, size: int | None = None) -> SimCLRViews:
        """Photographs: the full strength of colour, and blur."""
        return cls(size=size, crop=(0.08, 1.0), brightness=0.8, contrast=0.8, saturation=0.8, hue=0.2, blur=0.5)

    @classmethod
    def grey_scale(cls, size: int | None = None) -> SimCLRViews:
        """Drawings, digits, scans: no mirror images (a mirrored 2 is no 2), no colour."""
        return cls(size=size, flip=0.0, grey=0.0, hue=0.0, saturation=0.0)

    def __call__(self, images: Tensor, rng: np.random.Generator) -> Tensor:
        if images.ndim != 4 or not images.is_floating_point():
            raise DataError(
                f"Views are drawn from float images (N, C, H, W) in [0, 1]; "
                f"{images.dtype} {tuple(images.shape)} was given. "
                "Use counterpoint.modalities.image.pixels first."
            )
        n, channels, height, _ = images.shape
        images = images.float()
        x = crop_resize(
            images,
            self.size or height,
            draw_boxes(images.shape, rng, self.crop, self.ratio),
            _coin(n, rng, self.flip),
        )
        x = _some(x, _coin(n, rng, self.jitter), lambda y: self._colour(y, rng))
        grey = _coin(n, rng, self.grey)
        if channels == 3:
            x = _some(x, grey, lambda y: luma(y).expand_as(y))
        x = _some(x, _coin(n, rng, self.blur), lambda y: blur(y, _uniform(len(y), rng, *self.sigma)))
        return _some(x, _coin(n, rng, self.solarise), solarise)

    def _colour(self, x: Tensor, rng: np.random.Generator) -> Tensor:
        changes: tuple[tuple[Callable[[Tensor, Tensor], Tensor], float, float], ...] = (
            (adjust_brightness, 1 - self.brightness, 1 + self.brightness),
            (adjust_contrast, 1 - self.contrast, 1 + self.contrast),
            (adjust_saturation, 1 - self.saturation, 1 + self.saturation),
            (adjust_hue, -self.hue, self.hue),
        )
        for i in rng.permutation(len(changes)):
            change, low, high = changes[i]
            amount = _uniform(len(x), rng, low, high)
            if low < high and (x.shape[1] == 3 or i < 2):
                x = change(x, amount)
        return x


@dataclass(frozen=True, kw_only=True)
class PatchGrid:
    """Some cells of a 3×3 grid over a view, each with its overlap with the others: ``(N · count, C, patch, patch)``.

    view: how the picture under the grid is drawn, ``size`` pixels wide. patch: side of a cell in pixels. count: cells
    taken of the nine. jitter: largest shift of a cell in pixels; cells stay inside the picture. Those of image i lie at
    ``i · count`` to ``(i + 1) · count - 1``.

    Source: Gidaris et al. 2021 (OBoW), arXiv 2012.11552, section 4.1.

    >>> grid = PatchGrid(view=SimCLRViews(size=24), patch=8, count=5, jitter=2)
    >>> grid(torch.rand(2, 3, 32, 32), np.random.default_rng(0)).shape
    torch.Size([10, 3, 8, 8])
    """

    view: SimCLRViews
    patch: int = 96
    count: int = 5
    jitter: int = 24

    def __post_init__(self) -> None:
        if not 1 <= self.count <= 9:
            raise ConfigError(f"count={self.count}: a 3×3 grid has 1 to 9 cells to take.")

    def __call__(self, images: Tensor, rng: np.random.Generator) -> Tensor:
        x = self.view(images, rng)
        n, channels, side, _ = x.shape
        if self.patch > side:
            raise ConfigError(f"Patches of {self.patch} pixels do not fit into a view of {side}; lower patch.")
        cells = rng.permuted(np.tile(np.arange(9), (n, 1)), axis=1)[:, : self.count]
        corner = np.stack((cells // 3, cells % 3)) * ((side - self.patch) / 2)
        corner = corner + rng.integers(-self.jitter, self.jitter, corner.shape, endpoint=True)
        top, left = torch.from_numpy(corner.round().clip(0, side - self.patch).astype(np.int64)).to(x.device)
        along = torch.arange(self.patch, device=x.device)
        rows, columns = (top[..., None] + along)[..., :, None], (left[..., None] + along)[..., None, :]
        which = torch.arange(n, device=x.device)[:, None, None, None]
        out = x.movedim(1, -1)[which, rows, columns]  # (N, count, patch, patch, C)
        return out.movedim(-1, 2).reshape(n * self.count, channels, self.patch, self.patch)


def two_views(images: Sequence[Any], rng: np.random.Generator, collate: Collate) -> tuple[Tensor, Tensor]:
    """Two `SimCLRViews` of each image, ``(N, C, size, size)`` both; see `counterpoint.views.base.TwoViews`.

    images: N of them. rng: every draw comes from it. collate: the encoder's, to images of one size.

    >>> one, other = two_views([torch.rand(3, 16, 16)], np.random.default_rng(0), torch.stack)
    >>> one.shape, bool(torch.equal(one, other))
    (torch.Size([1, 3, 16, 16]), False)
    """
    data = collate(images)
    assert isinstance(data, Tensor)
    augment = SimCLRViews(size=data.shape[-1])
    return augment(data, rng), augment(data, rng)


def counterparts(items: Sequence[Any], rng: np.random.Generator, collate: Collate) -> tuple[Tensor, Tensor]:
    """One crop of each image had to find another crop of it.

    Both are views as SimCLR draws them, ``(N, C, S, S)``. See `counterpoint.views.base.Counterparts`.

    items: N images. rng: every draw comes from it. collate: the encoder's, to images of one size.

    >>> crop, another = counterparts([torch.rand(3, 16, 16)], np.random.default_rng(0), torch.stack)
    >>> crop.shape, another.shape
    (torch.Size([1, 3, 16, 16]), torch.Size([1, 3, 16, 16]))
    """
    return two_views(items, rng, collate)


def draw_boxes(
    shape: Sequence[int],
    rng: np.random.Generator,
    crop: tuple[float, float],
    ratio: tuple[float, float],
    tries: int = 10,
) -> Tensor:
    """Random crops ``(N, 4)``: centre x, centre y, width, height, as shares of the image.

    Share of the area uniform, ratio log-uniform, drawn again up to ``tries`` times where the box does not
    fit, then clipped.

    rng: every draw comes from it. shape: of the images, ``(N, C, H, W)``. crop: least and largest share of the area.
    ratio: least and largest width / height.

    >>> boxes = draw_boxes((5, 3, 32, 32), np.random.default_rng(0), (0.2, 1.0), (3 / 4, 4 / 3))
    >>> boxes.shape, bool((boxes[:, 2:] <= 1).all())
    (torch.Size([5, 4]), True)
    """
    n, _, height, width = shape
    area = rng.uniform(*crop, size=(tries, n))
    aspect = np.exp(rng.uniform(math.log(ratio[0]), math.log(ratio[1]), size=(tries, n))) * (height / width)
    sides = np.sqrt(np.stack((area * aspect, area / aspect)))  # (2, tries, N): width, height
    first = np.argmax((sides <= 1).all(0), axis=0)
    chosen = np.minimum(sides[:, first, np.arange(n)], 1.0)
    centre = chosen / 2 + rng.random((2, n)) * (1 - chosen)
    return torch.from_numpy(np.concatenate((centre, chosen)).T.astype(np.float32))


def crop_resize(images: Tensor, size: int, boxes: Tensor, flip: Tensor) -> Tensor:
    """Boxes ``(N, 4)`` of images ``(N, C, H, W)``, as ``(N, C, size, size)``, mirrored where ``flip`` ``(N,)``.

    Bilinear. Where the images are larger than ``size``, the grid is that many times denser and averaged, so that
    detail finer than the view does not alias.

    boxes: as `draw_boxes` gives them.

    >>> image = torch.arange(4.0).view(1, 1, 1, 4).expand(1, 1, 4, 4)
    >>> whole = torch.tensor([[0.5, 0.5, 1.0, 1.0]])
    >>> crop_resize(image, 4, whole, torch.tensor([True]))[0, 0, 0].round().tolist()  # mirrored
    [3.0, 2.0, 1.0, 0.0]
    """
    n, _, height, width = images.shape
    dense = max(1, round(min(height, width) / size))
    side = dense * size
    x, y, w, h = boxes.to(images).T[..., None]
    # Pixel centres of the view in the coordinates of grid_sample: -1 and 1 are the outer edges of the image.
    steps = (torch.arange(side, dtype=images.dtype, device=images.device) + 0.5) * (2 / side) - 1
    across = 2 * x - 1 + torch.where(flip[:, None].to(w.device), -w, w) * steps
    down = 2 * y - 1 + h * steps
    grid = torch.stack((across[:, None].expand(n, side, side), down[:, :, None].expand(n, side, side)), dim=-1)
    # Border: the outermost half pixel has no neighbour to interpolate with.
    out = F.grid_sample(images, grid, padding_mode="border", align_corners=False)
    return F.avg_pool2d(out, dense) if dense > 1 else out


def adjust_brightness(x: Tensor, factor: Tensor) -> Tensor:
    """``factor · x``, clipped to [0, 1]; ``factor`` ``(N,)``.

    x: images ``(N, C, H, W)`` in [0, 1].

    >>> adjust_brightness(torch.full((1, 3, 1, 1), 0.25), torch.tensor([2.0])).flatten().tolist()
    [0.5, 0.5, 0.5]
    """
    return (x * _column(factor.to(x))).clamp_(0, 1)


def adjust_contrast(x: Tensor, factor: Tensor) -> Tensor:
    """``mean + factor · (x - mean)`` with the mean brightness of each image, clipped.

    x: images ``(N, C, H, W)`` in [0, 1]. factor: ``(N,)``.

    >>> x = torch.rand(1, 3, 4, 4)
    >>> bool((adjust_contrast(x, torch.tensor([0.0])).std() < 1e-6))  # nothing but the mean is left
    True
    """
    return torch.lerp(luma(x).mean((1, 2, 3), keepdim=True), x, _column(factor.to(x))).clamp_(0, 1)


def adjust_saturation(x: Tensor, factor: Tensor) -> Tensor:
    """``grey + factor · (x - grey)`` pixel by pixel, clipped; RGB only.

    x: images ``(N, 3, H, W)`` in [0, 1]. factor: ``(N,)``.

    >>> grey = adjust_saturation(torch.rand(1, 3, 4, 4), torch.tensor([0.0]))
    >>> bool(torch.allclose(grey[:, 0], grey[:, 2]))
    True
    """
    return torch.lerp(luma(x), x, _column(factor.to(x))).clamp_(0, 1)


def adjust_hue(x: Tensor, turns: Tensor) -> Tensor:
    """Rotate the hue by ``turns`` ``(N,)`` of the circle; saturation and value of HSV stay. RGB only.

    x: images ``(N, 3, H, W)`` in [0, 1].

    >>> red = torch.tensor([1.0, 0.0, 0.0]).view(1, 3, 1, 1)
    >>> adjust_hue(red, torch.tensor([1 / 3])).flatten().round(decimals=3).abs().tolist()  # green
    [0.0, 1.0, 0.0]
    """
    red, green, blue = x.unbind(1)
    value = x.amax(1)
    chroma = value - x.amin(1)
    safe = chroma.clamp_min(1e-8)
    sixth = torch.where(  # hue in sixths of a turn
        value == red,
        (green - blue) / safe,
        torch.where(value == green, (blue - red) / safe + 2, (red - green) / safe + 4),
    )
    sixth = sixth + 6 * turns.to(x)[:, None, None]
    # Channel c of HSV -> RGB is value - chroma · clip(min(k, 4 - k), 0, 1) with k = (offset_c + hue) mod 6.
    k = (x.new_tensor((5.0, 3.0, 1.0))[None, :, None, None] + sixth[:, None]).remainder_(6)
    return value[:, None] - chroma[:, None] * torch.minimum(k, 4 - k).clamp_(0, 1)


def blur(x: Tensor, sigma: Tensor) -> Tensor:
    """Gaussian blur of ``sigma`` ``(N,)`` pixels; the kernel is about a tenth of the image, odd, at least 3.

    x: images ``(N, C, H, W)``.

    >>> blur(torch.ones(1, 3, 16, 16), torch.tensor([1.0])).shape
    torch.Size([1, 3, 16, 16])
    """
    n, channels, height, width = x.shape
    radius = min(max(1, round(0.05 * min(height, width))), min(height, width) - 1)
    offset = torch.arange(-radius, radius + 1, dtype=x.dtype, device=x.device)
    kernel = torch.softmax(-0.5 * (offset / sigma.to(x)[:, None]).square(), dim=1).repeat_interleave(channels, 0)
    flat = F.pad(x, (radius,) * 4, mode="reflect").reshape(1, n * channels, height + 2 * radius, width + 2 * radius)
    flat = F.conv2d(flat, kernel[:, None, None, :], groups=n * channels)
    return F.conv2d(flat, kernel[:, None, :, None], groups=n * channels).reshape(x.shape)


def solarise(x: Tensor, threshold: float = 0.5) -> Tensor:
    """``1 - x`` where ``x >= threshold``.

    x: images in [0, 1].

    >>> solarise(torch.tensor([0.25, 0.75])).tolist()
    [0.25, 0.25]
    """
    return torch.where(x >= threshold, 1 - x, x)


def _coin(n: int, rng: np.random.Generator, p: float) -> Tensor:
    return torch.from_numpy(rng.random(n) < p)


def _uniform(n: int, rng: np.random.Generator, low: float, high: float) -> Tensor:
    return torch.from_numpy(rng.uniform(low, high, n).astype(np.float32))


def _column(factor: Tensor) -> Tensor:
    return factor[:, None, None, None]


def _some(x: Tensor, chosen: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
    """``x`` with the chosen images changed."""
    if not chosen.any():
        return x
    index = chosen.nonzero()[:, 0].to(x.device)
    return x.index_copy(0, index, change(x[index]))


# --- cheap features ----------------------------------------------------------------------------------------------

SIDE = 16
"""Pixels: the side of the square that an image is made."""


def flat_pixels(train: Sequence[Any], test: Sequence[Any]) -> tuple[Matrix, Matrix, str]:
    """Images as squares of `SIDE` by `SIDE` pixels in red, green and blue, less the mean image.

    train, test: images. Returns the matrices of both, and what was left out of them in words.

    >>> train, test, cut = flat_pixels([torch.zeros(3, 32, 32), torch.ones(3, 32, 32)], [torch.ones(3, 32, 32)])
    >>> train.shape == (2, 3 * SIDE**2), test.shape == (1, 3 * SIDE**2)
    (True, True)
    """
    known, unseen = (pixels(list(items), SIDE, fit="squash").flatten(1).numpy() for items in (train, test))
    return *scaled(known - known.mean(0), unseen - known.mean(0)), ""


cheap = (Cheap(name="pixels", of=flat_pixels),)
