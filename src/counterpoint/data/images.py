"""Images: the decoding of one."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

from counterpoint.data.files.media import Medium, source
from counterpoint.errors import need


def decode(value: Mapping[str, Any] | bytes | str) -> Any:
    """An encoded image to a ``PIL.Image`` in its own mode, turned as EXIF says. `OSError` when it cannot be read."""
    need("PIL", "image")
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with Image.open(source(value)) as image:
            image.load()
            return ImageOps.exif_transpose(image)
    except (UnidentifiedImageError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise OSError(str(error)) from error


def damage(value: Mapping[str, Any] | bytes | str, *, whole: bool = True) -> str | None:
    """Why an image cannot be used, or None. whole: read all of it (at low resolution), not the header alone."""
    need("PIL", "image")
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
    need("PIL", "image")
    from PIL import Image

    out = io.BytesIO()
    Image.fromarray(array).save(out, format="PNG", compress_level=1)
    return out.getvalue()


IMAGES = Medium(
    "image",
    "images",
    frozenset({".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm", ".pgm"}),
    damage,
)
