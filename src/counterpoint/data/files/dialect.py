"""How the fields of separated values are told apart: by which separator, with which quotes, under which names."""

from __future__ import annotations

import csv
import io
import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, TypeAlias

import numpy as np

from counterpoint.data.files import textfile
from counterpoint.data.files.options import SEPARATORS, Reading
from counterpoint.data.files.store import File
from counterpoint.errors import DataError

SCAN = 64 * 2**20
"""Bytes whose quotes are looked at; what comes behind them is taken to be like them."""
LINES, HEAD = 1_000, 2**20
"""Lines, and bytes of them, by which separators, numbers and the header are told."""

Quotes: TypeAlias = Literal["doubled", "escaped", "spaced", "none"]
"""What a quote within quotes is written as: twice, or behind a backslash; spaced: twice, and spaces may stand before an
opening quote. none: quotes are signs like any other."""
Records: TypeAlias = list[list[str]]

_NUMBER = re.compile(r"\s*[+-]?(\d+([.,]\d*)?|[.,]\d+)([eE][+-]?\d+)?\s*")
_COMMA = re.compile(r"\s*[+-]?\d+,(\d{1,2}|\d{4,})\s*")  # three digits behind a comma may be thousands
_THOUSANDS = re.compile(r"\s*[+-]?\d{1,3}(\.\d{3})+(,\d+)?\s*")
_POINT = re.compile(r"\s*[+-]?\d*\.\d+([eE][+-]?\d+)?\s*")


@dataclass(frozen=True, kw_only=True)
class Dialect:
    """separator, quotes, decimal: as found or named. names: of the columns. header: whether the file gives them.
    before: lines before the header. rows: whether there are any. whole: all of the file was looked at.

    What to say of it: stray: the line of a quote that closes none. inside, first_inside: line breaks within quotes, and
    the line of the first. spaced: a space follows every separator. long: the names are as long as texts. unnamed:
    columns that the header gives no name.
    """

    separator: str
    quotes: Quotes
    decimal: str
    names: tuple[str, ...]
    header: bool
    before: int
    rows: bool
    whole: bool
    stray: int = 0
    inside: int = 0
    first_inside: int = 0
    spaced: bool = False
    long: bool = False
    unnamed: tuple[str, ...] = ()


def usual(path: File) -> str:
    """The separator that the name of a file promises.

    path: of the file.
    """
    return "\t" if path.name.lower().removesuffix(".gz").endswith(".tsv") else ","


@lru_cache(maxsize=10_000)
def look(path: File, state: tuple[str, int, str], reading: Reading) -> Dialect:
    """The dialect of a file, looked at once for each state of it.

    Raises `DataError` where quotes open that do not close, where a column is named twice, and for text that is of
    another encoding than it begins with.

    path: of the file. state: what tells whether it has changed. reading: what is said of it.
    """
    with textfile.open_text(path, reading) as stream:
        data = stream.read(SCAN)
        whole = len(data) < SCAN
    if not whole:
        data = data[: data.rfind(b"\n") + 1] or data
    before, hint, data = _before(data)
    head = _head(data)
    separator = reading.separator or hint or _separator(head, usual(path))
    width = _width(head, separator)
    quotes, stray, inside = _quotes(path, data, separator, width, tabbed=usual(path) == "\t")
    records = [r for r in _records(head, separator, quotes) if r]
    if not records:
        raise DataError(f"{path} holds no lines. Write it again, or leave it out.")
    first, rest = records[0], records[1:]
    header = reading.header if reading.header is not None else not _is_row(first, rest)
    names, unnamed = name_columns(path, first, header)
    return Dialect(
        separator=separator,
        quotes=quotes,
        decimal=_decimal(records[header:], separator),
        names=names,
        header=header,
        before=before,
        rows=bool(rest) or not header,
        whole=whole,
        stray=stray,
        inside=len(inside),
        first_inside=1 + before + data[: inside[0]].count(b"\n") if len(inside) else 0,
        spaced=_spaced(first, rest),
        long=header and _as_long(first, rest),
        unnamed=unnamed,
    )


def _before(data: bytes) -> tuple[int, str | None, bytes]:
    """(lines before the header, the separator that one of them names, the rest): blank ones, and Excel's ``sep=;``."""
    lines, hint = 0, None
    while found := re.match(rb"[ \t]*\r?\n|sep=(.)\r?\n", data):
        if found[1]:
            sign = found[1].decode("latin-1")
            hint = sign if sign in SEPARATORS else None
        data, lines = data[found.end() :], lines + 1
    return lines, hint, data


def _head(data: bytes) -> str:
    lines = data[:HEAD].split(b"\n")
    if len(data) > HEAD:
        lines = lines[:-1] or lines
    return b"\n".join(lines[: LINES + 1]).decode("utf-8", "replace")


def _records(text: str, separator: str, quotes: Quotes) -> Records:
    """The fields of each line; none where they cannot be told apart so."""
    if quotes == "none":
        return [line.removesuffix("\r").split(separator) for line in text.split("\n") if line.strip("\r\n ")]
    try:
        return [row for row in _reader(text, separator, quotes) if row]
    except csv.Error:  # a carriage return within a field, for instance
        return []


def _reader(text: str, separator: str, quotes: Quotes) -> Iterator[list[str]]:
    csv.field_size_limit(max(csv.field_size_limit(), len(text)))
    return csv.reader(
        io.StringIO(text, newline=""),
        delimiter=separator,
        escapechar="\\" if quotes == "escaped" else None,
        doublequote=quotes != "escaped",
        skipinitialspace=quotes == "spaced",
    )


# --- the separator ---------------------------------------------------------------------------------------------


def _separator(head: str, usual: str) -> str:
    """The separator with which most lines have as many fields as the first; of equals, the one between whose fields
    more numbers stand."""
    best, found = (0.0, 0.0, 0, False), usual
    for sign in SEPARATORS:
        share, records = max(
            ((_alike(r), r) for q in ("doubled", "none", "spaced") if (r := _records(head, sign, q))),  # type: ignore[arg-type]
            key=lambda one: one[0],
            default=(0.0, []),
        )
        cells = [cell for r in records for cell in r if cell.strip()]
        numbers = sum(bool(_NUMBER.fullmatch(c)) for c in cells) / max(1, len(cells))
        rank = (round(share, 2), numbers, len(records[0]) if records else 0, sign == usual)
        if share > 0 and rank > best:
            best, found = rank, sign
    return found


def _alike(records: Records) -> float:
    """The share of lines with as many fields as the first has, or 0 where it has one."""
    width = len(records[0])
    return sum(len(r) == width for r in records) / len(records) if width > 1 else 0.0


def _width(head: str, separator: str) -> int:
    """Fields of a line: as many as the first one has."""
    for quotes in ("doubled", "none"):
        if records := _records(head, separator, quotes):  # type: ignore[arg-type]
            return len(records[0])
    return 1


# --- quotes ----------------------------------------------------------------------------------------------------


def _quotes(path: File, data: bytes, separator: str, width: int, *, tabbed: bool) -> tuple[Quotes, int, np.ndarray]:
    """What quotes mean; the line of the first one that breaks their rules where they then mean nothing; the places of
    line breaks within them where they keep the rules.

    The rules: an opening quote follows a separator or a line break, a closing one is followed by either. Where they
    hold, quotes mean something; else they mean nothing if then all lines have as many fields as the first. So no line
    is swallowed by a quote that only looks like an opening one.
    """
    none = np.empty(0, np.int64)
    if b'"' not in data:
        return ("none" if tabbed else "doubled"), 0, none
    broken = _broken(data, separator)
    lines = [line for line in data.split(b"\n") if line.strip(b"\r ")]
    plain = sum(line.count(separator.encode()) == width - 1 for line in lines)
    if broken is None:
        # Two stray quotes can enclose a separator and a line break, as if they quoted: a .tsv seldom quotes.
        inside = _within(data)
        if tabbed and plain == len(lines) and len(inside):
            return "none", data[: inside[0]].count(b"\n") + 1, none
        return "doubled", 0, inside
    line = data[:broken].count(b"\n") + 1
    if plain == len(lines):
        return "none", line, none
    text = data.decode("utf-8", "replace")
    ways: tuple[Quotes, ...] = ("doubled", "escaped", "spaced")
    for way in ways:
        if (way == "escaped" and b'\\"' not in data) or (way == "spaced" and separator.encode() + b' "' not in data):
            continue
        if _fits(text, separator, way, width) and not _swallows(text, separator, way):
            return way, 0, none
    if tabbed:
        return "none", line, none
    if where := _swallows(text, separator, "doubled"):
        ends = f"closes in the middle of one in line {where[1]:,}" if where[1] else "never closes"
        raise DataError(
            f"{path}: a quote opens a field in line {where[0]:,} and {ends}, so that the lines behind it would be no "
            'rows. Put a quote within "quotes" twice, and fields that hold the separator in quotes.'
        )
    return "doubled", 0, none


def _fits(text: str, separator: str, quotes: Quotes, width: int) -> bool:
    """Whether all lines have so many fields."""
    try:
        return all(len(row) == width for row in _reader(text, separator, quotes) if row)
    except csv.Error:
        return False


def _signs(data: bytes, separator: str) -> tuple[np.ndarray, np.ndarray]:
    """All bytes, and the places of quotes."""
    signs = np.frombuffer(data, np.uint8)
    return signs, np.flatnonzero(signs == ord('"'))


def _broken(data: bytes, separator: str) -> int | None:
    """The place of the first quote that breaks the rules, where one does.

    Quotes open and close in turn. A doubled one closes and opens at once, so that it breaks none of them.
    """
    signs, at = _signs(data, separator)
    border = np.zeros(256, bool)
    border[[ord(separator), 10, 13, ord('"')]] = True
    padded = np.concatenate([[10], signs, [10]]).astype(np.uint8)
    opens, closes = at[::2], at[1::2]
    bad = np.concatenate([opens[~border[padded[opens]]], closes[~border[padded[closes + 2]]]])
    if len(at) % 2:
        bad = np.append(bad, at[-1])
    return int(bad.min()) if len(bad) else None


def _within(data: bytes) -> np.ndarray:
    """The places of line breaks within quotes, where quotes keep the rules."""
    signs, at = _signs(data, ",")
    ends = np.flatnonzero(signs == 10)
    return ends[np.searchsorted(at, ends) % 2 == 1]


def _swallows(text: str, separator: str, quotes: Quotes) -> tuple[int, int] | None:
    """(line in which a quote opens, line in which it closes) of a quoted field with a line break in it, behind whose
    closing quote the field goes on; 0 where it never closes. None where there is no such field."""
    body = r'(?:[^"\\]|\\.)*+' if quotes == "escaped" else r'(?:[^"]|"")*+'
    space = " *" if quotes == "spaced" else ""
    sign = re.escape(separator)
    field = re.compile(rf'{space}"({body})("?)([^{sign}\r\n]*)({sign}|\r?\n|\Z)|[^{sign}\n]*({sign}|\n|\Z)', re.S)
    at = 0
    while at < len(text):
        found = field.match(text, at)
        if found is None or found.end() == at:
            break
        if found[1] is not None and "\n" in found[1] and (not found[2] or found[3].strip()):
            begin = text.count("\n", 0, found.start()) + 1
            return begin, begin + found[1].count("\n") if found[2] else 0
        at = found.end()
    return None


# --- header and numbers ----------------------------------------------------------------------------------------


def _is_row(first: Sequence[str], rest: Records) -> bool:
    """Whether the first line is a row rather than names: numbers stand in it where they stand below it, unless they
    count up, as names do that a program gave."""
    if not rest:
        return all(map(_number, first))
    at = [i for i, cell in enumerate(first) if _number(cell)]
    if not at or not all(_number(r[i]) or not r[i].strip() for r in rest[:100] for i in at if i < len(r)):
        return False
    values = [first[i].strip() for i in at]
    if not all(v.isdigit() for v in values):
        return True
    numbers = [int(v) for v in values]
    if len(numbers) == 1:
        return not (numbers[0] == 0 and any(not c.strip() for c in first))  # an index without a name, and column 0
    steps = [b - a for a, b in itertools.pairwise(numbers)]
    years = min(steps) > 0 and numbers[0] >= 1900 and numbers[-1] <= 2100
    return not (years or (set(steps) == {1} and (len(numbers) == len(first) or len(numbers) > 2)))


def _number(cell: str) -> bool:
    return bool(_NUMBER.fullmatch(cell))


def name_columns(path: File, first: Sequence[str], header: bool) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The names of the columns, and those that the file does not give; the first one, of an index, is ``index``.

    path: of the file. first: cells of its first row. header: whether these are names.
    """
    if not header:
        return tuple(f"column_{i}" for i in range(1, len(first) + 1)), ()
    names = [cell.strip() for cell in first]
    unnamed = []
    for i, name in enumerate(names):
        if not name:
            names[i] = "index" if i == 0 and "index" not in names else f"column_{i + 1}"
            unnamed.append(names[i])
    if twice := sorted({n for n in names if names.count(n) > 1}):
        raise DataError(f"{path}: the header names a column twice: {', '.join(twice)}. Rename one of them.")
    return tuple(names), tuple(unnamed)


def _decimal(records: Records, separator: str) -> str:
    """``,`` where numbers have a comma before their decimals, and none has a point there."""
    cells = [cell for r in records for cell in r]
    if separator == "," or not any(map(_COMMA.fullmatch, cells)):
        return "."
    return "." if any(_POINT.fullmatch(c) and not _THOUSANDS.fullmatch(c) for c in cells) else ","


def _spaced(first: Sequence[str], rest: Records) -> bool:
    """Whether a space follows every separator, so that it belongs to none of the fields."""
    cells = [cell for r in [first, *rest] for cell in r[1:] if cell]
    return bool(cells) and all(cell[0] == " " for cell in cells)


def _as_long(first: Sequence[str], rest: Records) -> bool:
    """Whether a name is as long as the texts below it, and they are long."""
    at = max(range(len(first)), key=lambda i: len(first[i]), default=0)
    below = sorted(len(r[at]) for r in rest if len(r) > at)
    return bool(below) and len(first[at]) > 20 and 40 < 2 * below[len(below) // 2] < 4 * len(first[at])
