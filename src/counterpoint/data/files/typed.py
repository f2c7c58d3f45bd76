"""Columns of text to what they hold: whole numbers, numbers or text, without losing how anything is written."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from counterpoint.data.roles import LABELS

MISSING = ("", "nan", "NaN", "NAN", "null", "NULL", "NA", "N/A", "n/a", "#N/A", "<NA>", "None")
"""What an empty cell of a column of numbers is written as."""
EMPTY, WHOLE, NUMBER, TEXT = range(4)

_NAMES = r"^[+-]?0\d+$|^\+\d+$"
"""How whole numbers are written that are names: 007."""
_LONG = r"^[+-]?\d{16,}$"
"""Whole numbers of more digits than floating point keeps."""
_COMMAS = r"^[+-]?(\d+|\d{1,3}(\.\d{3})+)(,\d+)?$"
_NUMBER = re.compile(r"[+-]?(\d+([.,]\d+)*[.,]?|[.,]\d+)([eE][+-]?\d+)?|[+-]?inf(inity)?", re.IGNORECASE)
_FEW = 100


class Typing:
    """The types of the columns of a file, found over all of its blocks before any is given.

    names: of the columns, which hold texts. decimal: what stands before decimals. trim: texts lose the space around
    them.
    """

    def __init__(self, names: Sequence[str], *, decimal: str = ".", trim: bool = False) -> None:
        self._decimal, self._trim = decimal, trim
        self._found = dict.fromkeys(names, EMPTY)
        self._written: dict[str, set[str]] = {name: set() for name in names}  # comma, point, long
        self._numbers: dict[str, pa.ChunkedArray] = {}  # of the block that was looked at last

    def look(self, block: pa.Table) -> None:
        """Widen the types to what a block holds."""
        self._numbers = {}
        for name, found in self._found.items():
            if found != TEXT:
                kind, written = max(found, self._kind(name, block.column(name))), self._written[name]
                mixed = {"comma", "point"} <= written or (kind == NUMBER and "long" in written)
                self._found[name] = TEXT if mixed else kind

    def table(self, block: pa.Table, *, last: bool = False) -> pa.Table:
        """A block with its columns as what they hold. last: it is the one that was looked at last."""
        found = {}
        for name, kind in self._found.items():
            column = block.column(name)
            if kind == TEXT:
                found[name] = pc.utf8_trim_whitespace(column) if self._trim else column
            elif kind == EMPTY:
                found[name] = pa.chunked_array([pa.nulls(len(column))])
            else:
                type_ = pa.int64() if kind == WHOLE else pa.float64()
                known = self._numbers.get(name) if last else None
                found[name] = known if known is not None and known.type == type_ else self._cast(name, column, type_)
        return pa.table(found)

    def _kind(self, name: str, column: pa.ChunkedArray) -> int:
        some = [v.strip() for v in column.slice(0, _FEW).to_pylist()]
        if any(v not in MISSING and not _NUMBER.fullmatch(v) for v in some):
            return TEXT
        if self._decimal == "," and (kind := self._with_commas(name, _cells(column).drop_null())) is not None:
            return kind
        for kind, type_ in ((WHOLE, pa.int64()), (NUMBER, pa.float64())):
            try:
                numbers = self._cast(name, column, type_)
            except pa.ArrowInvalid:
                continue
            if numbers.null_count == len(numbers):
                return EMPTY
            if self._names(name, column, numbers):
                return TEXT
            self._numbers[name] = numbers
            return kind
        return TEXT

    def _with_commas(self, name: str, values: pa.ChunkedArray) -> int | None:
        """The type of a column of numbers with decimal commas; None where it has none."""
        if _any(pc.match_substring(values, ",")):
            self._written[name].add("comma")
            return NUMBER if pc.all(pc.match_substring_regex(values, _COMMAS)).as_py() else TEXT
        if _any(pc.match_substring(values, ".")):
            self._written[name].add("point")
        return None

    def _names(self, name: str, column: pa.ChunkedArray, numbers: pa.ChunkedArray) -> bool:
        """Whether numbers are names, which would not be what is written if they were read as numbers."""
        if pa.types.is_integer(numbers.type) and pc.all(pc.equal(numbers.cast(pa.string()), column)).as_py() is True:
            big = pc.min_max(numbers).as_py()
            if big["max"] >= 10**15 or big["min"] <= -(10**15):
                self._written[name].add("long")
            return False
        values = _cells(column).drop_null()
        signs = pc.or_(pc.starts_with(values, "0"), pc.or_(pc.starts_with(values, "-"), pc.starts_with(values, "+")))
        if _any(pc.match_substring_regex(values.filter(signs), _NAMES)):
            return True
        long = values.filter(pc.greater_equal(pc.utf8_length(values), 16))
        if _any(pc.match_substring_regex(long, _LONG)):
            self._written[name].add("long")
        # Classes are what is written: 1.1 and 1.10 are two.
        return name.lower() in LABELS and pc.count_distinct(values).as_py() != pc.count_distinct(numbers).as_py()

    def _cast(self, name: str, column: pa.ChunkedArray, type_: pa.DataType) -> pa.ChunkedArray:
        try:
            if "comma" not in self._written[name]:
                return column.cast(type_)
        except pa.ArrowInvalid:
            pass
        cells = _cells(column)
        if "comma" in self._written[name]:
            cells = pc.replace_substring(pc.replace_substring(cells, ".", ""), ",", ".")
        return cells.cast(type_)


def _cells(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Without the space around them; null where nothing is written."""
    trimmed = pc.utf8_trim_whitespace(column)
    return pc.if_else(pc.is_in(trimmed, pa.array(MISSING)), None, trimmed)


def _any(mask: pa.ChunkedArray) -> bool:
    return bool(pc.any(mask).as_py())
