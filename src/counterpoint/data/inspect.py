"""What is in a data set, before anything is learned from it: rows, lengths, repeats, classes, leakage."""

from __future__ import annotations

import hashlib
import itertools
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from counterpoint.data.arrange import arranged
from counterpoint.data.classes import class_name
from counterpoint.data.column_types import CLASS, NUMBER, column_type
from counterpoint.data.files import media
from counterpoint.data.files.options import Said
from counterpoint.data.files.read import Source, read, read_plain
from counterpoint.data.infer import infer
from counterpoint.data.log import Log
from counterpoint.data.roles import METADATA
from counterpoint.data.rows import Rows
from counterpoint.data.schema import Schema
from counterpoint.errors import DataError
from counterpoint.modalities import base as modalities
from counterpoint.modalities.base import discover
from counterpoint.modalities.text import TEXT

if TYPE_CHECKING:
    import datasets
    from rich.console import RenderableType

QUANTILES = (0.0, 0.25, 0.5, 0.75, 0.95, 1.0)
TOP = 8  # classes shown


@dataclass(frozen=True)
class Column:
    """One column. part: what it is taken for ('': nothing). Lengths are quantiles (`QUANTILES`) in characters and in
    words, of texts only.

    name: its name. type: what it holds. missing: cells without a value. distinct: different values (None: not counted).
    classes: name and count of each. range: least and largest number. nan: how many numbers are none.
    """

    name: str
    type: str
    missing: int
    distinct: int | None = None
    characters: tuple[int, ...] = ()
    words: tuple[int, ...] = ()
    classes: tuple[tuple[str, int], ...] = ()
    range: tuple[float, float] | None = None
    nan: int = 0
    part: str = ""


@dataclass(frozen=True)
class Inspection:
    """rows; columns; plays: the sentence of `infer`, or why it cannot decide. duplicates: rows all of whose texts an
    earlier row has. leakage: (part a, part b) -> texts of b that are in a after `normalise`. notes: what reading said.
    """

    rows: int
    columns: tuple[Column, ...]
    plays: str
    duplicates: int
    leakage: dict[tuple[str, str], int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __rich__(self) -> RenderableType:
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        table = Table(title=f"{self.rows:,} rows")
        for heading in ("column", "type", "taken for", "missing", "distinct", "words (most)", "values"):
            table.add_column(heading, justify="right" if heading in ("missing", "distinct") else "left")
        for c in self.columns:
            cells = (
                c.name, c.type, c.part or "–", f"{c.missing:,}", "" if c.distinct is None else f"{c.distinct:,}",
                _length(c), _values(c),
            )  # fmt: skip
            table.add_row(*map(Text, cells))  # as it is: brackets in the data are no markup
        return Group(table, *map(Text, self.lines()))

    def lines(self) -> list[str]:
        """The findings beneath the table, as sentences."""
        out = [self.plays]
        if self.duplicates:
            out.append(f"{self.duplicates:,} rows repeat an earlier row's texts.")
        for (a, b), count in self.leakage.items():
            out.append(f"{count:,} texts of {b} are also in {a}." if count else f"No text of {b} is in {a}.")
        return [*out, *self.notes]

    def __str__(self) -> str:
        head = [f"{self.rows:,} rows"]
        for c in self.columns:
            said = [f"{c.name}: {c.type}", f"taken for {c.part}" if c.part else "not used", f"{c.missing:,} missing"]
            said += [f"{c.distinct:,} distinct"] if c.distinct is not None else []
            said += [f"characters {_short(c.characters)}", f"words {_short(c.words)}"] if c.characters else []
            said += [_values(c)] if _values(c) else []
            head.append("  " + ", ".join(said))
        return "\n".join([*head, *self.lines()])


def inspect(source: Source | datasets.Dataset, *, limit: int = 1_000_000, reading: Said = None) -> Inspection:
    """Look at a source (as for `read`) or a data set; of a stream, at its first ``limit`` rows.

    reading: what is said of files rather than found.

    Leakage is counted between the values of a column ``split``, or between the files where several were given.
    """
    log = Log()
    parts: dict[str, Any] = {}
    found: Any
    if isinstance(source, list | tuple) and len(source) > 1:
        import datasets  # here: importing it takes long

        parts = {str(one): _whole(read(one, split="all", log=log, reading=reading), limit) for one in source}
        found = datasets.concatenate_datasets(list(parts.values()))
    elif (plain := read_plain(source, log=log, reading=reading)) is not None:
        found = plain
    else:
        found = _whole(read(source, split="all", log=log, reading=reading), limit)
    if not parts and "split" in found.column_names:
        values = np.array([str(v) for v in found.with_format("arrow")["split"].to_pylist()])
        names = list(dict.fromkeys(values.tolist()))
        if 1 < len(names) <= 10:
            parts = {n: found.select(np.flatnonzero(values == n)) for n in names}
    texts = [n for n in found.column_names if column_type(found, n) == TEXT and not METADATA.fullmatch(n.lower())]
    parts_played: dict[str, str] = {}
    said = texts
    try:
        schema = infer(found)
        plays, parts_played = schema.why, _parts(found, schema)
        said = texts if set(schema.modalities.values()) == {TEXT} else []
        for sentence in _learned(found, schema):
            log.note(sentence)
    except DataError as error:
        plays = str(error)
    leaks = {
        (a, b): leakage(_first_texts(parts[a], texts), _first_texts(parts[b], texts))
        for a, b in itertools.combinations(parts, 2)
    }
    rows = [hashlib.blake2b("\0".join(str(v) for v in r).encode(), digest_size=12).digest() for r in _zip(found, said)]
    return Inspection(
        rows=len(found),
        columns=tuple(replace(_column(found, n), part=parts_played.get(n, "")) for n in found.column_names),
        plays=plays,
        duplicates=len(rows) - len(set(rows)),
        leakage=leaks if texts else {},
        notes=tuple(log.lines()),
    )


def _parts(found: datasets.Dataset, schema: Schema) -> dict[str, str]:
    """Column -> what it is taken for."""
    out: dict[str, str] = {}
    for part, columns in schema.columns.items():
        for name in [columns] if isinstance(columns, str) else columns:
            out.setdefault(name, part)
    for _, *names in schema.changes:
        for name in (n for n in names if n not in out and n in found.column_names):
            out[name] = schema.kind  # the rows are made of it
    return out


def _learned(found: datasets.Dataset, schema: Schema) -> list[str]:
    """What is changed before rows like these are learned from, which columns of known names are not used, and which
    rows are left out."""
    changed, kept = Log(), Log()
    rows = arranged(found, schema.changes, changed)
    if modalities.of(next(iter(schema.modalities.values()))).shape == "rows":
        with suppress(DataError):  # of rows of which nothing can be learned, the verbs that learn say why
            Rows(rows, replace(schema, changes=()), log=kept)
    return [*changed.lines(), *schema.notes, *Log(skipped=kept.skipped).lines()]


def normalise(text: str) -> str:
    """Text as compared for leakage: NFKC, lower case, letters and digits only, one space between words.

    text: any.
    """
    return " ".join(re.findall(r"\w+", unicodedata.normalize("NFKC", text).casefold()))


def leakage(train: Iterable[str], test: Iterable[str]) -> int:
    """How many test texts are in the training texts, after `normalise`. Each test text counts once per occurrence.

    train, test: texts of both parts.
    """
    known = {_digest(t) for t in train}
    return sum(1 for t in test if _digest(t) in known)


def _digest(text: str) -> bytes:
    # Sixteen bytes instead of the text: a million texts take 50 MB.
    return hashlib.blake2b((normalise(text) or text).encode(), digest_size=16).digest()


def _whole(found: Any, limit: int) -> datasets.Dataset:
    import datasets

    if isinstance(found, datasets.Dataset):
        return found
    found = media.encoded(found)
    return datasets.Dataset.from_list(list(found.take(limit)), features=found.features)


def _zip(found: datasets.Dataset, names: list[str]) -> Iterable[tuple[Any, ...]]:
    return zip(*(found.with_format("arrow")[n].to_pylist() for n in names)) if names else ()


def _first_texts(found: datasets.Dataset, names: list[str]) -> list[str]:
    """The first text of each row: for pairs, the anchor."""
    return [t for (t,) in _zip(found, names[:1]) if t]


def _column(found: datasets.Dataset, name: str) -> Column:
    type_ = column_type(found, name)
    if type_ in discover() and discover()[type_].suffixes:  # encoded files
        values = found.data.column(name)
        return Column(name, type_, values.null_count)
    values = found.with_format("arrow")[name].to_pylist()
    present = [v for v in values if v is not None and not (isinstance(v, str) and not v.strip())]
    missing = len(values) - len(present)
    if type_ == TEXT:
        counts = Counter(present)
        few = len(counts) * 10 <= len(present) and len(counts) <= 1_000
        return Column(
            name, type_, missing, len(counts),
            _quantiles([len(v) for v in present]), _quantiles([len(v.split()) for v in present]),
            tuple(counts.most_common(TOP)) if few else (),
        )  # fmt: skip
    if type_ == CLASS:
        names = found.features[name].names
        counts = Counter(names[v] if v >= 0 else "none" for v in present)
        return Column(name, type_, missing, len(counts), classes=tuple(counts.most_common(TOP)))
    if type_ == NUMBER:
        array = np.asarray(present, dtype=np.float64)
        finite = array[np.isfinite(array)]
        counts = Counter(class_name(v) if isinstance(v, int) else f"{v:g}" for v in present if v == v)
        spread = (float(finite.min()), float(finite.max())) if len(finite) else None
        classes = tuple(counts.most_common(TOP)) if len(counts) <= 100 else ()
        return Column(name, type_, missing, len(counts), classes=classes, range=spread, nan=int(np.isnan(array).sum()))
    return Column(name, type_, missing)


def _quantiles(lengths: list[int]) -> tuple[int, ...]:
    return tuple(int(q) for q in np.quantile(lengths, QUANTILES)) if lengths else ()


def _length(c: Column) -> str:
    """How many words the texts of a column have: the median and the most, for a table that is read in a terminal."""
    if not c.words:
        return ""
    middle, most = QUANTILES.index(0.5), QUANTILES.index(1.0)
    return f"{c.words[middle]:,} ({c.words[most]:,})"


def _short(quantiles: tuple[int, ...]) -> str:
    return " · ".join(f"{quantiles[i]:,}" for i in (0, 2, 4, 5)) if quantiles else ""


def _values(c: Column) -> str:
    said = [f"{c.range[0]:g} … {c.range[1]:g}"] if c.range else []
    said += [f"{c.nan:,} NaN"] if c.nan else []
    if c.classes:
        more = f", {c.distinct - len(c.classes):,} more" if c.distinct and c.distinct > len(c.classes) else ""
        said.append(", ".join(f"{name} {count:,}" for name, count in c.classes) + more)
    return "; ".join(said)
