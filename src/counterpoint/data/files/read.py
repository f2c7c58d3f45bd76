"""Rows in: one path, several, globs or a hub id, to a `datasets.Dataset` (or an `IterableDataset` for a stream).

Small files become a table in memory. Larger ones are turned once into an Arrow file in the cache folder
(``COUNTERPOINT_CACHE``, else ``~/.cache/counterpoint``) and memory-mapped from there. Still larger ones are streamed.
Nothing is unpickled, no code of a data set is run, and a hub is contacted only for an id that is no path.
"""

from __future__ import annotations

import glob
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from counterpoint.data import objects
from counterpoint.data.files import documents, formats, hub, linked, media, store, tables
from counterpoint.data.files.options import Reading, Said, reading_of
from counterpoint.data.files.plain import Plain, is_plain
from counterpoint.data.files.store import File
from counterpoint.data.log import Log
from counterpoint.errors import DataError
from counterpoint.modalities import base as modalities

if TYPE_CHECKING:
    import datasets

Source: TypeAlias = str | Path | Sequence[str | Path]

STREAM_ABOVE = 16 * 2**30
"""Bytes above which a source is streamed unless told otherwise."""

_SPLITS = {
    "train": "train", "training": "train", "test": "test", "testing": "test",
    "dev": "dev", "val": "dev", "valid": "dev", "validation": "dev",
}  # fmt: skip


def read(
    source: Source | Any,
    *,
    split: str | None = None,
    streaming: bool | None = None,
    log: Log | None = None,
    reading: Said = None,
) -> datasets.Dataset | datasets.IterableDataset:
    """The rows of a source.

    source: files (jsonl, json, csv, tsv, txt, each also .gz; parquet; arrow; xlsx; webdataset .tar), globs of them,
    a folder of them, a folder of images or recordings (class sub-folders, or metadata.jsonl / .csv with ``file_name``),
    a folder of documents (.md, .txt; each is cut into passages), a folder written by ``save_to_disk``, addresses of
    such files in any store that fsspec reaches (``s3://``, ``gs://``, ``https://``, ``hf://``, with ``*`` or
    ``{000..127}``), the name of a set in the registry, or a hub id ``owner/name[:configuration]``; or rows that are in
    memory already, see `counterpoint.data.objects.dataset` (texts, since a list of strings names files, as
    ``{"text": [...]}``).
    split: which part. None: ``train`` where the parts lie apart (in files, folders, or under a name of the registry or
    the hub), else every row, whatever a column ``split`` says (see `train_part`); ``all``: every row.
    streaming: rows one after another, without random access (None: only above `STREAM_ABOVE` bytes).
    log: receives what was skipped, found and decided. reading: what is said of files rather than found, a `Reading` or
    a mapping of its fields: ``{"separator": ";", "encoding": "cp1252", "header": False}``.

    Raises `DataError` for whatever cannot be read, `ConfigError` for a separator or an encoding that there is not.
    """
    log, said = Log() if log is None else log, reading_of(reading)
    if isinstance(source, list | tuple) and len(source) == 1 and objects.is_table(source[0]):
        source = source[0]
    if not objects.is_paths(source):
        return _object(source, split, bool(streaming), log)
    asked = [source] if isinstance(source, str | Path) else list(source)
    if not asked:
        raise DataError("No source was given. Give a file, a folder or a glob.")
    if len(asked) == 1 and (remote := _not_a_path(asked[0])):
        from counterpoint.data.sets import registry

        if remote in registry.ENTRIES:
            return _registered(remote, split, bool(streaming), log)
        return hub.load(remote, split="all" if split == "all" else split, streaming=bool(streaming))
    paths = [p for one in asked for p in (_remote(one) if store.is_url(one) else _expand(one))]
    if paths and all(isinstance(p, Path) and p.suffix.lower() in documents.SUFFIXES[:2] for p in paths):
        return _documents(paths[0].parent, [p for p in paths if isinstance(p, Path)], streaming, log, said)
    if len(paths) == 1 and isinstance(paths[0], Path) and paths[0].is_dir():
        return _folder(paths[0], split, streaming, log, said)
    return _files(_flatten(paths), split, streaming, log, said)


def read_plain(source: Source | Any, *, log: Log, reading: Said = None) -> Plain | None:
    """The rows of one file of this machine that is small and has plain columns, as `read` gives them but without what
    `datasets` costs to import; None for every other source. Parameters and errors as of `read`.

    source, log, reading: as there."""
    if not isinstance(source, str | Path) or store.is_url(source):
        return None
    path, said = Path(source).expanduser(), Log()
    if not path.is_file() or formats.kind(path) in (None, "tar") or path.suffix.lower() in documents.SUFFIXES[:2]:
        return None
    if _size([path]) > tables.MAP_ABOVE:
        return None
    table = tables.joined([path], said, reading_of(reading)).combine_chunks()
    if not is_plain(table.schema) or any(linked.named_files(column) for column in table.columns):
        return None
    log.note(f"Read {path}.")
    for sentence in said.notes:
        log.note(sentence)
    for what, why in said.skipped:
        log.skip(what, why)
    return Plain(table)


def _object(source: Any, split: str | None, streaming: bool, log: Log) -> Any:
    """Rows that are in memory already."""
    import datasets

    found = objects.dataset(source, split=split, log=log)
    if isinstance(found, datasets.IterableDataset):
        return found
    parts = isinstance(source, datasets.DatasetDict)
    if split not in (None, "all") and not parts:
        found = _where_split(found, str(split), f"The {type(source).__name__}")
    return found.to_iterable_dataset() if streaming else found


def train_part(dataset: Any, log: Log) -> Any:
    """The rows to learn from: those whose column ``split`` says train, where there is one that also says otherwise.

    dataset: of `datasets`. log: of the rows.
    """
    import datasets

    if not isinstance(dataset, datasets.Dataset) or "split" not in dataset.column_names:
        return dataset
    names = [str(n) for n in dataset.unique("split")]
    if len(names) < 2 or "train" not in {part(n) for n in names}:
        return dataset
    log.note(f"Column 'split' holds {', '.join(names)}: the rows of train are used.")
    return _where_split(dataset, "train", "the rows")


def part(name: str) -> str | None:
    """The split that a name speaks of: ``valid-00001`` -> ``dev``; None where it speaks of none."""
    return next((_SPLITS[w] for w in re.split(r"[^a-z]+", name.lower()) if w in _SPLITS), None)


def parts_of(source: Source) -> set[str]:
    """The splits (train, test, dev) that a folder is divided into, by the names of what it holds; none for others.

    source: a folder, or anything else that is read.
    """
    asked = objects.sources(source)
    if len(asked) == 1 and isinstance(asked[0], dict):  # a DatasetDict
        return {found for name in asked[0] if (found := part(str(name))) is not None}
    if (
        len(asked) != 1
        or not objects.is_paths(asked)
        or store.is_url(asked[0])
        or not (root := Path(asked[0]).expanduser()).is_dir()
    ):
        return set()
    saved = (root / "dataset_dict.json").exists()
    names = [
        p for p in root.iterdir() if not p.name.startswith(".") and (p.is_dir() or (not saved and formats.kind(p)))
    ]
    return {found for p in names if (found := part(p.name.split(".")[0])) is not None}


_OF_MODELS = ("checkpoints", "counterpoint.json", "modules.json", "model.safetensors")
"""What the folder of a run or of a model holds, and no folder of rows."""


# --- which files -----------------------------------------------------------------------------------------------


def _not_a_path(source: str | Path) -> str | None:
    """The source as a name, where it is no path: a registered set or a hub id."""
    text = str(source)
    if isinstance(source, Path) or store.is_url(text) or Path(text).expanduser().exists() or glob.has_magic(text):
        return None
    from counterpoint.data.sets import registry

    if text in registry.ENTRIES:
        return text
    local = formats.kind(Path(text)) or (Path(text).parts[:1] and Path(Path(text).parts[0]).is_dir())
    return text if hub.HUB_ID.fullmatch(text) and not local else None


def _expand(source: str | Path) -> list[Path]:
    path = Path(source).expanduser()
    if path.exists():
        return [path]
    if glob.has_magic(str(path)):
        if found := sorted(glob.glob(str(path), recursive=True)):
            return [Path(p) for p in found]
        raise DataError(f"No file matches {str(source)!r}. Check the pattern with: ls {source}")
    texts = " Texts themselves are given as {'text': [...]} (in Python)." if " " in str(source) else ""
    raise DataError(
        f"There is no file or folder {str(source)!r} (seen from {Path.cwd()}). Check the path; a hub id looks like "
        f"owner/name; `counterpoint data` lists the data sets known by name.{texts}"
    )


def _remote(url: str | Path) -> list[store.Remote]:
    """The data files that an address means."""
    found = store.expand(str(url))
    readable = found if len(found) == 1 else [f for f in found if formats.kind(f)]
    if not readable:
        raise DataError(f"{url} holds nothing that can be read, none of {formats.readable()}.")
    return readable


def _flatten(paths: Sequence[File]) -> list[File]:
    """Folders among several sources stand for the data files in them."""
    out: list[File] = []
    for path in paths:
        found: Sequence[File] = _data_files(path) if isinstance(path, Path) and path.is_dir() else [path]
        if not found:
            raise DataError(f"The folder {path} holds no data files. Among several sources, folders must hold some.")
        out += found
    return list(dict.fromkeys(out))


def _data_files(folder: Path) -> list[Path]:
    return sorted(
        p
        for p in folder.rglob("*")
        if p.is_file() and formats.kind(p) and not any(x[0] in "._" for x in p.relative_to(folder).parts)
    )


def _folder(root: Path, split: str | None, streaming: bool | None, log: Log, reading: Reading) -> Any:
    if (root / "dataset_dict.json").exists() or (root / "state.json").exists():
        return _saved(root, split, bool(streaming), log)
    if any((root / name).exists() for name in _OF_MODELS):
        raise DataError(
            f"{root} is the folder of a run or of a model, not rows. Give the files with the rows; a model is named "
            f"first, as in: counterpoint encode {root} ROWS"
        )
    files = _data_files(root)
    if any(p.name.startswith("corpus.jsonl") for p in files) and any(p.name.startswith("queries.") for p in files):
        raise DataError(
            f"{root} is a retrieval set (corpus, queries, qrels), made to be evaluated on, not rows to learn from. "
            f"Type: counterpoint eval MODEL {root}"
        )
    held = [modalities.of(name) for name in media.held(root)]
    if len(held) > 1:
        raise DataError(
            f"{root} holds both {' and '.join(m.many for m in held)}. Give a folder of one of them, or parquet files "
            "with a column of each."
        )
    if held and (found := _naming(files, split, log, reading)) is not None:
        return found.to_iterable_dataset() if streaming else found
    if held:
        folders = [p for p in sorted(root.iterdir()) if p.is_dir() and not p.name.startswith(".")]
        parts = {_SPLITS.get(p.name.lower(), ""): p for p in folders}
        if parts and "" not in parts and not any((root / n).exists() for n in media.METADATA):
            root = _choose(parts, split, root, log)
        elif split not in (None, "all"):
            raise DataError(f"{root} has no sub-folder for the split {split!r}. Leave --split out.")
        found = media.folder(root, held[0], log)
        return found.to_iterable_dataset() if streaming else found
    texts = documents.inside(root)
    if len(texts) > 1 and set(files) <= set(texts) and not any(part(p.stem) for p in texts if p.parent == root):
        tops = {p.relative_to(root).parts[0] for p in texts}
        parts = {_SPLITS.get(top.lower(), ""): root / top for top in sorted(tops)}
        if "" not in parts:
            root = _choose(parts, split, root, log)
        elif split not in (None, "all"):
            raise DataError(f"{root} has no sub-folder for the split {split!r}. Leave --split out.")
        return _documents(root, documents.inside(root), streaming, log, reading)
    if not files:
        words = ", no ".join(m.many for m in modalities.discover().values() if m.suffixes)
        raise DataError(
            f"The folder {root} holds nothing that can be read: no {words}, and none of {formats.readable()}."
        )
    if len(kinds := sorted({str(formats.kind(p)) for p in files})) > 1:
        raise DataError(
            f"{root} holds files of several formats ({', '.join(kinds)}). Name one, as in '{root}/*.jsonl'."
        )
    return _files(files, split, streaming, log, reading, chosen=True)


def _naming(files: Sequence[Path], split: str | None, log: Log, reading: Reading) -> Any:
    """The rows of the one table in a folder of pictures or recordings, where it names these; else None."""
    kinds = ("csv", "json", "parquet", "excel")
    tables_ = [p for p in files if p.name not in media.METADATA and formats.kind(p) in kinds]
    if len(tables_) != 1:
        return None
    aside = Log()
    try:
        found = _files(tables_, split, False, aside, reading)
    except DataError as error:
        log.note(f"{tables_[0]} is not read: {error}")
        return None
    if not any(modalities.of_feature(f) for f in found.features.values()):
        log.note(f"{tables_[0]} names none of the files beside it; it is not read.")
        return None
    for sentence in aside.notes:
        log.note(sentence)
    return found


def _documents(root: Path, paths: list[Path], streaming: bool | None, log: Log, reading: Reading) -> Any:
    found = documents.table(root, paths, reading, log)
    return found.to_iterable_dataset() if streaming else found


def _choose(parts: dict[str, Any], split: str | None, what: Path, log: Log) -> Any:
    """One of several parts: the one asked for, else train, else the only one."""
    wanted = (part(split) or split) if split else "train"
    if wanted in parts:
        if split is None and len(parts) > 1:
            log.note(f"Of the parts {', '.join(parts)} of {what}, train is used.")
        return parts[wanted]
    if split is None and len(parts) == 1:
        return next(iter(parts.values()))
    raise DataError(f"{what} has the parts {', '.join(parts)}, not {wanted!r}. Type: --split {next(iter(parts))}")


def _registered(name: str, split: str | None, streaming: bool, log: Log) -> Any:
    from counterpoint.data.sets import registry

    entry = registry.find(name)
    if entry.task == "retrieval":
        raise DataError(
            f"{name} is a retrieval set (corpus, queries, qrels), made to be evaluated on, not rows to learn from. "
            f"Type: counterpoint eval MODEL {name}"
        )
    if entry.task in [m.name for m in modalities.discover().values() if m.shape == "whole"]:
        raise DataError(f"{name} is one {entry.task}, not a table of rows. Type: counterpoint fit {name} --out RUN")
    if split is None and "train" in entry.splits:
        split = "train"
        log.note(f"Of the parts {', '.join(entry.splits)} of {name}, train is used.")
    found: Any = registry.load(name, None if split == "all" else split)
    return found.to_iterable_dataset() if streaming else found


def _saved(root: Path, split: str | None, streaming: bool, log: Log) -> Any:
    import datasets

    try:
        found = datasets.load_from_disk(str(root))
    except Exception as error:  # damaged folders fail in many ways, none of them named
        first = str(error).strip().splitlines()[0][:200] if str(error) else type(error).__name__
        raise DataError(f"{root} is not a whole folder of `save_to_disk` ({first}). Save it again.") from error
    if isinstance(found, datasets.DatasetDict):
        if split == "all":
            found = datasets.concatenate_datasets(list(found.values()))
        else:
            found = _choose({part(n) or n: d for n, d in found.items()}, split, root, log)
    elif split not in (None, "all"):
        found = _where_split(found, str(split), str(root))
    return found.to_iterable_dataset() if streaming else found


# --- rows of files ---------------------------------------------------------------------------------------------


def _files(
    paths: Sequence[File],
    split: str | None,
    streaming: bool | None,
    log: Log,
    reading: Reading,
    *,
    chosen: bool = False,
) -> Any:
    """chosen: the files were found in a folder, so a train file among them excludes the test files."""
    by_folder = {p: _SPLITS.get(p.parent.name.lower()) if chosen else None for p in paths}
    by_name = {p: part(p.name.split(".")[0]) or by_folder[p] or "other" for p in paths}
    in_column = False
    if chosen and split is None and "train" in by_name.values():
        groups = {n: [p for p in paths if by_name[p] == n] for n in dict.fromkeys(by_name.values())}
        paths = _choose(groups, split, paths[0].parent, log)
    elif split not in (None, "all"):
        wanted = part(str(split)) or str(split)
        named = [p for p in paths if by_name[p] == wanted]
        paths, in_column = (named, False) if named else (paths, True)
    size = _size(paths)
    log.note(f"Read {paths[0]}." if len(paths) == 1 else f"Read {len(paths):,} files: {paths[0]} … {paths[-1]}.")
    if streaming or (streaming is None and size > STREAM_ABOVE):
        stream = tables.stream(list(paths), log, reading)
        return stream.filter(_Equal(str(split))) if in_column else stream
    found = tables.table(list(paths), size, log, reading)
    found = linked.with_files(found, paths[0].parent, reading, log) if _together(paths) else found
    if in_column:
        return _where_split(found, str(split), ", ".join(map(str, paths[:3])))
    if split is None and "split" in found.column_names and found.features["split"].dtype == "string":
        names = found.unique("split")
        if 1 < len(names) <= 10:
            log.note(f"Column 'split' holds {', '.join(map(str, names))}: all rows are used (--split NAME: one part).")
    return found


def _where_split(found: datasets.Dataset, split: str, what: str) -> datasets.Dataset:
    """The rows whose column ``split`` names the part asked for."""
    if "split" not in found.column_names:
        raise DataError(
            f"{what}: neither a file name nor a column 'split' tells which rows are {split!r}. Leave --split out."
        )
    names = [str(n) for n in found.unique("split")]
    matching = [n for n in names if n == split or part(n) == (part(split) or split)]
    if not matching:
        raise DataError(f"{what}: column 'split' holds {', '.join(names)}, not {split!r}. Type: --split {names[0]}")
    import datasets
    import numpy as np

    mask = pc.is_in(found.data.column("split"), pa.array(matching))
    if found.data.nbytes > tables.MAP_ABOVE or found._indices is not None:
        return found.select(np.flatnonzero(mask.to_numpy()))
    return datasets.Dataset(found.data.table.filter(mask).combine_chunks())


def _size(paths: Sequence[File]) -> int:
    """Bytes that the rows of files take, more or less."""
    return sum(store.size(p) * (4 if p.name.lower().endswith("gz") else 1) for p in paths)


def _together(paths: Sequence[File]) -> bool:
    """Whether all files lie in one folder of this machine."""
    return all(isinstance(p, Path) for p in paths) and len({p.parent for p in paths}) == 1


class _Equal:
    """Whether a streamed row belongs to a split (a class, so that it can be sent to other processes)."""

    def __init__(self, split: str) -> None:
        self.split = split

    def __call__(self, row: dict[str, Any]) -> bool:
        if "split" not in row:
            raise DataError(f"There is no column 'split' to tell which rows are {self.split!r}. Leave --split out.")
        return row["split"] == self.split or part(str(row["split"])) == (part(self.split) or self.split)
