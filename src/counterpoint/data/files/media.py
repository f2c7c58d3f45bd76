"""Files of one item each (images, sounds): how they lie in a column, and a folder of them to rows.

They stay encoded in Arrow until a row is taken.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from counterpoint.data.files.formats import tables
from counterpoint.data.log import Log
from counterpoint.errors import DataError
from counterpoint.modalities.base import Column, Modality, discover, of_column, of_feature, of_suffix

if TYPE_CHECKING:
    import datasets

METADATA = ("metadata.jsonl", "metadata.csv", "metadata.parquet")
ARROW = pa.struct({"bytes": pa.binary(), "path": pa.string()})
"""How an encoded file lies in a column: its bytes, or its path."""
DECODE_ALL = 256 * 2**20
"""Bytes of files up to which every one is decoded once while reading, so that a damaged one is found at once.
Above it, only headers are read, and a damaged file is found when its row is taken."""


def features(table: pa.Table, **known: Any) -> datasets.Features:
    """The features of a table: the known ones (``label=ClassLabel(...)``), those of files, the rest from the types."""
    import datasets

    found = datasets.Features.from_arrow_schema(table.schema)
    for name in table.column_names:
        if table.schema.field(name).type == ARROW and of_feature(found[name]) is None:
            modality = of_column(Column.of(table, name))
            if modality is not None and modality.feature:
                found[name] = getattr(datasets, modality.feature)()
    for name, feature in known.items():
        found[name] = feature
    return found


def encoded(stream: datasets.IterableDataset) -> datasets.IterableDataset:
    """A stream whose images and sounds stay as they lie in the files.

    All but images become a plain struct, as `datasets` wants a decoder of its own even to leave them alone.
    """
    import datasets

    if not stream.features:
        return stream
    files = {n: of_feature(feature) for n, feature in stream.features.items()}
    for name in [n for n, m in files.items() if m is not None and not isinstance(stream.features[n], datasets.Image)]:
        plain = {"bytes": datasets.Value("binary"), "path": datasets.Value("string")}
        stream = stream.cast_column(name, plain)
    return stream.decode(False)


def dataset(columns: Mapping[str, Any], **known: Any) -> datasets.Dataset:
    """Columns to a data set; those named like a modality of files are lists of bytes, paths, or ``{bytes, path}``.

    columns: name -> cells. known: name -> feature, where it is not to be found out.
    """
    import datasets

    files = [m.name for m in discover().values() if m.suffixes]
    arrays = {k: _array(v) if k in files else pa.array(v) for k, v in columns.items()}
    table = pa.table(arrays)
    return datasets.Dataset(table.cast(features(table, **known).arrow_schema))


def _array(files: Iterable[Any]) -> pa.Array:
    def cell(value: Any) -> dict[str, Any]:
        if isinstance(value, bytes):
            return {"bytes": value, "path": None}
        return dict(value) if isinstance(value, Mapping) else {"bytes": None, "path": str(value)}

    return pa.array([cell(v) for v in files], type=ARROW)


def below(folder: Path, name: str) -> str | None:
    """The path of a file that a table in a folder names, where it lies below that folder; None where it does not.

    folder: of the table. name: as the table has it.
    """
    root = os.path.abspath(folder)
    path = os.path.abspath(os.path.join(root, name))
    return path if path.startswith(os.path.join(root, "")) else None


# --- a folder --------------------------------------------------------------------------------------------------


def held(root: Path) -> dict[str, list[Path]]:
    """Modality -> its items below a folder, sorted by path: files, and folders that are an item each. Hidden ones are
    left out.

    root: the folder.
    """
    known = [m for m in discover().values() if m.suffixes]
    folders = {m.name: m.folders(root) for m in known if m.folders}
    taken = {p for found in folders.values() for p in found}
    files = [p for p in root.rglob("*") if p not in taken and not taken.intersection(p.parents)]
    shown = [p for p in files if not any(part.startswith(".") for part in p.relative_to(root).parts)]
    found = {m.name: [*folders.get(m.name, []), *(p for p in shown if p.suffix.lower() in m.suffixes)] for m in known}
    return {name: sorted(paths) for name, paths in found.items() if paths}


def folder(root: Path, medium: Modality, log: Log) -> datasets.Dataset:
    """A folder of files: with a metadata file (column ``file_name``), with one sub-folder per class, or files only.

    Unreadable files are skipped and listed in the log. Columns: that of the medium, and ``label`` or those of the
    metadata.

    root: the folder. medium: what its files are. log: of the rows.
    """
    import datasets

    metadata = next((root / name for name in METADATA if (root / name).exists()), None)
    if metadata is not None:
        return _with_metadata(root, metadata, medium, log)
    found = held(root).get(medium.name, [])
    if folders := [p for p in found if p.is_dir()]:
        log.note(
            f"{len(folders):,} folders in {root} are read as {medium.many}, as the files of each follow one upon the "
            f"other. To read files by themselves, list them in {root / METADATA[1]}, in a column file_name."
        )
    paths = _readable(found, root, medium, log)
    names = [p.relative_to(root).parts[0] if p.parent != root else "" for p in paths]
    classes = sorted(set(names))
    if "" in classes or len(classes) < 2:
        if "" in classes and len(classes) > 1:
            what = medium.many
            log.note(f"{root} holds {what} both directly and in sub-folders: sub-folders are not taken as classes.")
        return dataset({medium.name: paths})
    number = {name: i for i, name in enumerate(classes)}
    columns = {medium.name: paths, "label": [number[n] for n in names]}
    return dataset(columns, label=datasets.ClassLabel(names=classes))


def _with_metadata(root: Path, metadata: Path, medium: Modality, log: Log) -> datasets.Dataset:
    table = pa.concat_tables(list(tables(metadata)), promote_options="permissive")
    if "file_name" not in table.column_names:
        raise DataError(
            f"{metadata} has no column 'file_name', only {', '.join(table.column_names)}. "
            "Add one with the path of each file, relative to the folder."
        )
    names = [str(name) for name in table["file_name"].to_pylist()]
    if outside := [n for n in names if below(root, n) is None]:
        raise DataError(
            f"{metadata} names {outside[0]!r}, which lies outside of {root}. Put the files below that folder."
        )
    paths = [root / name for name in names]
    medium = _listed(paths, medium)
    kept = set(_readable(paths, root, medium, log))
    rest = table.drop_columns(["file_name"]).filter(pa.array([p in kept for p in paths]))
    columns = {medium.name: [p for p in paths if p in kept]}
    others = [n for n in rest.column_names if n != medium.name]
    return dataset({**columns, **{n: rest[n].combine_chunks() for n in others}})


def _listed(paths: list[Path], medium: Modality) -> Modality:
    """The modality of the files or folders that are listed, as the first that is there says; else the one found."""
    there = next((p for p in paths if p.exists()), None)
    if there is not None and there.is_dir():
        return next((m for m in discover().values() if m.folders), medium)
    return (of_suffix(there.suffix.lower()) if there else None) or medium


def _readable(paths: list[Path], root: Path, medium: Modality, log: Log) -> list[Path]:
    """The paths whose files can be read; the others are logged."""
    damage = medium.damage
    assert damage is not None  # whoever has suffixes says so
    whole = sum(_bytes(p) for p in paths) <= DECODE_ALL

    def reason_of(path: Path) -> str | None:
        if path.exists() and not path.is_file() and not (medium.folders and path.is_dir()):
            return "no file: a folder, a pipe, a socket or a device"  # for which one would wait without end
        return damage(str(path), whole=whole)

    with ThreadPoolExecutor() as pool:
        reasons = list(pool.map(reason_of, paths))
    kept = []
    for path, reason in zip(paths, reasons):
        if reason is None:
            kept.append(path)
        else:
            log.skip(str(path.relative_to(root)), reason)
    if not kept:
        raise DataError(f"{root}: none of its {len(paths):,} {medium.many} can be read. {' '.join(log.lines())}")
    return kept


def _bytes(path: Path) -> int:
    """Of a file, or of the files of a folder; 0 where there is none."""
    if path.is_dir():
        return sum(p.stat().st_size for p in path.iterdir() if p.is_file())
    return path.stat().st_size if path.exists() else 0
