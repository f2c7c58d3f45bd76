"""Images: a folder of them to rows, and the decoding of one. Images stay encoded in Arrow until a row is taken."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from counterpoint.data.formats import tables
from counterpoint.data.log import Log
from counterpoint.errors import DataError, need

if TYPE_CHECKING:
    import datasets

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm", ".pgm"}
METADATA = ("metadata.jsonl", "metadata.csv", "metadata.parquet")
ARROW = pa.struct({"bytes": pa.binary(), "path": pa.string()})
"""How an encoded image lies in a column: its bytes, or the path of its file."""
DECODE_ALL = 256 * 2**20
"""Bytes of files up to which every image is decoded once while reading, so that a damaged one is found at once.
Above it, only headers are read, and a damaged image is found when its row is taken."""


def decode(value: Mapping[str, Any] | bytes | str) -> Any:
    """An encoded image to a ``PIL.Image`` in its own mode, turned as EXIF says. `OSError` when it cannot be read."""
    need("PIL", "image")
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with Image.open(_source(value)) as image:
            image.load()
            return ImageOps.exif_transpose(image)
    except (UnidentifiedImageError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise OSError(str(error)) from error


def damage(value: Mapping[str, Any] | bytes | str, *, whole: bool = True) -> str | None:
    """Why an image cannot be used, or None. whole: read all of it (at low resolution), not the header alone."""
    need("PIL", "image")
    from PIL import Image

    try:
        with Image.open(_source(value)) as image:
            if whole:
                image.draft("RGB", (32, 32))
                image.load()
    except FileNotFoundError:
        return "no such image file"
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return "not readable as an image"
    return None


def _source(value: Mapping[str, Any] | bytes | str) -> Any:
    if isinstance(value, Mapping):
        value = value["bytes"] if value.get("bytes") is not None else value["path"]
    return io.BytesIO(value) if isinstance(value, bytes) else value


def encode_png(array: Any) -> bytes:
    """A ``(H, W)`` or ``(H, W, 3)`` uint8 array as PNG bytes."""
    need("PIL", "image")
    from PIL import Image

    out = io.BytesIO()
    Image.fromarray(array).save(out, format="PNG", compress_level=1)
    return out.getvalue()


def features(schema: pa.Schema, **known: Any) -> datasets.Features:
    """The features of a table: the known ones (``label=ClassLabel(...)``), images, and the rest from the types."""
    import datasets

    found = datasets.Features.from_arrow_schema(schema)
    for name in schema.names:
        if schema.field(name).type == ARROW:
            found[name] = datasets.Image()
    for name, feature in known.items():
        found[name] = feature
    return found


def dataset(columns: Mapping[str, Any], **known: Any) -> datasets.Dataset:
    """Columns to a data set; image columns are lists of bytes, of paths, or of ``{bytes, path}``."""
    import datasets

    arrays = {k: _array(v) if k == "image" else pa.array(v) for k, v in columns.items()}
    table = pa.table(arrays)
    return datasets.Dataset(table.cast(features(table.schema, **known).arrow_schema))


def _array(images: Iterable[Any]) -> pa.Array:
    def cell(value: Any) -> dict[str, Any]:
        if isinstance(value, bytes):
            return {"bytes": value, "path": None}
        return dict(value) if isinstance(value, Mapping) else {"bytes": None, "path": str(value)}

    return pa.array([cell(v) for v in images], type=ARROW)


# --- a folder --------------------------------------------------------------------------------------------------


def inside(folder: Path) -> list[Path]:
    """Image files below a folder, sorted by path; hidden ones are left out."""
    return sorted(
        p
        for p in folder.rglob("*")
        if p.suffix.lower() in SUFFIXES and not any(part.startswith(".") for part in p.relative_to(folder).parts)
    )


def folder(root: Path, log: Log) -> datasets.Dataset:
    """A folder of images: with a metadata file (column ``file_name``), with one sub-folder per class, or images only.

    Unreadable images are skipped and listed in the log. Columns: ``image``, and ``label`` or those of the metadata.
    """
    import datasets

    metadata = next((root / name for name in METADATA if (root / name).exists()), None)
    if metadata is not None:
        return _with_metadata(root, metadata, log)
    paths = _readable(inside(root), root, log)
    names = [p.relative_to(root).parts[0] if p.parent != root else "" for p in paths]
    classes = sorted(set(names))
    if "" in classes or len(classes) < 2:
        if "" in classes and len(classes) > 1:
            log.note(f"{root} holds images both directly and in sub-folders: sub-folders are not taken as classes.")
        return dataset({"image": paths})
    number = {name: i for i, name in enumerate(classes)}
    return dataset({"image": paths, "label": [number[n] for n in names]}, label=datasets.ClassLabel(names=classes))


def _with_metadata(root: Path, metadata: Path, log: Log) -> datasets.Dataset:
    table = pa.concat_tables(list(tables(metadata)), promote_options="permissive")
    if "file_name" not in table.column_names:
        raise DataError(
            f"{metadata} has no column 'file_name', only {', '.join(table.column_names)}. "
            "Add one with the path of each image, relative to the folder."
        )
    paths = [root / str(name) for name in table["file_name"].to_pylist()]
    kept = set(_readable(paths, root, log))
    rest = table.drop_columns(["file_name"]).filter(pa.array([p in kept for p in paths]))
    columns = {"image": [p for p in paths if p in kept]}
    return dataset({**columns, **{n: rest[n].combine_chunks() for n in rest.column_names if n != "image"}})


def _readable(paths: list[Path], root: Path, log: Log) -> list[Path]:
    """The paths whose images can be read; the others are logged."""
    whole = sum(p.stat().st_size for p in paths if p.exists()) <= DECODE_ALL
    with ThreadPoolExecutor() as pool:
        reasons = list(pool.map(lambda p: damage(str(p), whole=whole), paths))
    kept = []
    for path, reason in zip(paths, reasons):
        if reason is None:
            kept.append(path)
        else:
            log.skip(str(path.relative_to(root)), reason)
    if not kept:
        raise DataError(f"{root}: none of its {len(paths):,} images can be read. Check one with an image viewer.")
    return kept
