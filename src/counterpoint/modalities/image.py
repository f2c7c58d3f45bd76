"""Images: the decoding of one, and of many to the pixels that encoders and views eat."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from counterpoint.errors import DataError, ItemError, need
from counterpoint.modalities.base import Modality, decoded, is_encoded, is_file, source

if TYPE_CHECKING:
    from torch import Tensor

IMAGE = "image"
THUMBNAIL = 96
"""Pixels of the longer side of an image in a report, at most."""
LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in brightness (ITU-R BT.601)."""


def decode(value: Mapping[str, Any] | bytes | str) -> Any:
    """An encoded image to a ``PIL.Image`` in its own mode, turned as EXIF says. `OSError` when it cannot be read.

    value: ``{bytes, path}``, bytes, or a path.
    """
    need("PIL", IMAGE)
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with Image.open(source(value)) as image:
            image.load()
            return ImageOps.exif_transpose(image)
    except (UnidentifiedImageError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise OSError(str(error)) from error


def damage(value: Mapping[str, Any] | bytes | str, *, whole: bool = True) -> str | None:
    """Why an image cannot be used, or None. whole: read all of it (at low resolution), not the header alone.

    value: of a cell.
    """
    need("PIL", IMAGE)
    from PIL import Image

    try:
        with Image.open(source(value)) as image:
            if whole:
                image.draft("RGB", (32, 32))
                image.load()
    except FileNotFoundError:
        return "no such image file"
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return "not readable as an image"
    return None


def encode_png(array: Any) -> bytes:
    """A ``(H, W)`` or ``(H, W, 3)`` uint8 array as PNG bytes."""
    need("PIL", IMAGE)
    from PIL import Image

    out = io.BytesIO()
    Image.fromarray(array).save(out, format="PNG", compress_level=1)
    return out.getvalue()


def item(cell: Any, beside: Mapping[str, Any]) -> Any:
    """The ``PIL.Image`` in a cell. Raises `OSError` for one that cannot be read.

    cell: of the column. beside: not needed.
    """
    try:
        return decoded(cell, decode)
    except OSError as error:
        raise OSError("cannot be read") from error


def shown(image: Any) -> str:
    """A ``PIL.Image`` as an HTML image of at most `THUMBNAIL` pixels; '' for one of a mode that is no picture's."""
    transparent = image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info
    try:
        small = image.convert("RGBA" if transparent else "RGB")
    except ValueError:
        return ""
    small.thumbnail((THUMBNAIL, THUMBNAIL))
    out = io.BytesIO()
    small.save(out, format="PNG", optimize=True)
    return f'<img alt="" src="data:image/png;base64,{base64.b64encode(out.getvalue()).decode("ascii")}">'


# --- pixels ----------------------------------------------------------------------------------------------------


def pixels(images: Sequence[Any], size: int, *, channels: int = 3, fit: Literal["crop", "squash"] = "crop") -> Tensor:
    """Images of any kind and size to one float32 batch ``(N, channels, size, size)`` in [0, 1].

    An image is a PIL image, a path, encoded bytes, a dict with ``bytes`` or ``path`` (as `datasets` stores
    them), an array ``(H, W)`` or ``(H, W, C)``, or a tensor ``(H, W)`` or ``(C, H, W)``; integers are divided
    by the largest value of their type, floats must lie in [0, 1]. Resizing is bilinear with antialiasing.
    fit: ``crop`` keeps the shape (the shorter side fits, the rest of the longer one is cut off evenly),
    ``squash`` keeps everything. Transparent pixels show white. Raises DataError, naming the place in
    ``images``, for what cannot be read, is empty, NaN or out of range.
    """
    import torch
    from torch.nn import functional as F

    out = torch.empty(len(images), channels, size, size)
    for i, image in enumerate(images):
        try:
            x = _channels(_pixels(image, channels), channels)
        except (OSError, SyntaxError, ValueError) as error:  # Pillow raises SyntaxError for broken PNG files
            raise ItemError(f"Image {{place}} of {{of}} cannot be used: {error}", i, len(images)) from error
        height, width = x.shape[-2:]
        if (height, width) != (size, size):
            scale = size / min(height, width)
            shape = (
                (size, size) if fit == "squash" else (max(size, round(height * scale)), max(size, round(width * scale)))
            )
            x = F.interpolate(x[None], shape, mode="bilinear", antialias=True, align_corners=False)[0].clamp_(0, 1)
            top, left = (shape[0] - size) // 2, (shape[1] - size) // 2
            x = x[:, top : top + size, left : left + size]
        out[i] = x
    return out


def _pixels(image: Any, channels: int) -> Tensor:
    """Float (C, H, W) in [0, 1] with the image's own number of channels."""
    import torch

    if isinstance(image, Mapping):
        image = image["bytes"] if image.get("bytes") else image.get("path")
    if isinstance(image, (str, os.PathLike)):
        if not os.path.isfile(image):  # a folder, a pipe that nobody writes to
            raise DataError(f"there is no image file {os.fspath(image)!r}.")
        image = need("PIL.Image", IMAGE).open(image)
    elif isinstance(image, bytes):
        image = need("PIL.Image", IMAGE).open(io.BytesIO(image))
    if isinstance(image, torch.Tensor):
        x = image if image.ndim == 3 else image[None]
    elif isinstance(image, np.ndarray):
        x = torch.from_numpy(np.array(image))  # a copy: torch refuses read-only arrays
        x = x.movedim(-1, 0) if x.ndim == 3 else x[None]
    elif hasattr(image, "convert"):
        image = need("PIL.ImageOps", IMAGE).exif_transpose(image)
        mode = _mode(image, channels)
        x = torch.from_numpy(np.array(image if image.mode == mode else image.convert(mode)))
        x = x.movedim(-1, 0) if x.ndim == 3 else x[None]
    else:
        raise DataError(f"a {type(image).__name__} is no image; give a PIL image, a path, bytes, an array or a tensor.")
    if x.ndim != 3 or 0 in x.shape:
        raise DataError(
            f"its shape is {tuple(x.shape)} (channels, height, width); expected three axes, none of them empty."
        )
    if x.is_floating_point():
        x = x.float()
        if not (x.amin() >= 0 and x.amax() <= 1):  # written so that NaN fails too
            raise DataError(
                f"its values span {x.amin():.4g} to {x.amax():.4g}; floats must lie in [0, 1], without NaN."
            )
        return x
    if x.dtype == torch.bool:
        return x.float()
    return x.to(torch.float32) / torch.iinfo(x.dtype).max


def _mode(image: Any, channels: int) -> str:
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        raise DataError(
            f"its mode is {image.mode} (more than 8 bits); give it as an array of uint16 or of floats in [0, 1]."
        )
    transparent = image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info
    if transparent:
        return "RGBA"
    return "L" if channels == 1 else "RGB"


def _channels(x: Tensor, channels: int) -> Tensor:
    """(C, H, W) to (channels, H, W): alpha over white, grey repeated, colour to brightness."""
    import torch

    if len(x) == channels:
        return x
    if len(x) == 4 and channels in (1, 3):
        x = x[:3] * x[3:] + (1 - x[3:])
    elif len(x) in (1, 3) and channels == 4:
        x = torch.cat((x.expand(3, *x.shape[1:]), torch.ones_like(x[:1])))
    if len(x) == 1:
        x = x.expand(channels, *x.shape[1:])
    elif len(x) == 3 and channels == 1:
        x = luma(x[None])[0]
    if len(x) != channels:
        raise DataError(
            f"it has {len(x)} channels and the encoder takes {channels}; set the encoder's `channels` to {len(x)}."
        )
    return x


def luma(x: Tensor) -> Tensor:
    """Brightness ``(N, 1, H, W)``: weighted sum of red, green, blue; the mean of any other channels.

    x: images ``(N, C, H, W)``.
    """
    if x.shape[1] != 3:
        return x.mean(1, keepdim=True)
    return x[:, :1] * LUMA[0] + x[:, 1:2] * LUMA[1] + x[:, 2:] * LUMA[2]


# --- what is known of them -------------------------------------------------------------------------------------


def example(rng: np.random.Generator, size: int = 32) -> Any:
    """Noise in colour, a ``PIL.Image``.

    rng: every draw comes from it. size: of a side, in pixels.
    """
    return need("PIL.Image", IMAGE).fromarray(rng.integers(0, 256, (size, size, 3), dtype=np.uint8))


modality = Modality(
    name=IMAGE,
    one="an image",
    many="images",
    item=item,
    fits=is_encoded,
    looks=lambda column: is_file(column.type),  # other files are told by how they begin
    together=512,
    shown=shown,
    bags=True,
    suffixes=frozenset({".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm", ".pgm"}),
    damage=damage,
    feature="Image",
    needs=("pillow", "kornia"),
    then=("counterpoint index {run} ROWS && counterpoint search {run} --image FILE",),
    example=example,
)
