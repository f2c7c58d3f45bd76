"""What is known of a modality: how its items lie in columns and files, how they are decoded and what they are called.

A file ``modalities/NAME.py`` holds one `Modality` under the name ``modality``; the rest of the library asks it, and
names none. Another package adds its own with `register`, before rows are read. pyarrow, torch and what decodes files
are imported where they are used, so that names and words can be had at once.
"""

from __future__ import annotations

import importlib
import io
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import IO, TYPE_CHECKING, Any, Literal, Protocol

from counterpoint.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

JOINED = "+"
"""Between the names of modalities of which one item holds all: ``image+table``."""


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column of a table, by which it is told what it holds.

    name, type: its own. cells: all of them, still in Arrow. beside: name -> type of every column of the table.
    """

    name: str
    type: pa.DataType
    cells: pa.ChunkedArray
    beside: Mapping[str, pa.DataType]

    @classmethod
    def of(cls, table: Any, name: str) -> Column:
        """A column of an Arrow table."""
        beside = {f.name: f.type for f in table.schema}
        return cls(name=name, type=beside[name], cells=table.column(name), beside=beside)

    def number_beside(self, names: tuple[str, ...]) -> str | None:
        """The column of numbers with the best-known of these names (their order counts), in upper or lower case."""
        lower = {n.lower(): n for n, type_ in reversed(list(self.beside.items())) if is_number(type_)}
        return next((lower[n] for n in names if n in lower), None)


class Damage(Protocol):
    """Why a value that holds an encoded file cannot be used, or None: ``(value, *, whole=True)``; see `Modality`."""

    def __call__(self, value: Mapping[str, Any] | bytes | str, *, whole: bool = True) -> str | None:
        """Why a file cannot be used, or None. whole: read all of it, not the header alone."""
        ...


@dataclass(frozen=True, kw_only=True)
class Format:
    """Files that hold many items each.

    name: in words, as errors call it. suffixes: with the dot, without ``.gz``. read: the bytes of a file (decompressed,
    without a byte-order mark) and what to call it -> tables of bounded size.
    """

    name: str
    suffixes: frozenset[str]
    read: Callable[[IO[bytes], str], Iterator[pa.Table]]


def as_it_is(cell: Any, beside: Mapping[str, Any]) -> Any:
    """A cell that is the item.

    cell: of the column. beside: the other cells of its row that belong to it.
    """
    return cell


@dataclass(frozen=True, kw_only=True, eq=False)
class Modality:
    """What an item is. Only words, what a cell is, which columns can hold it, and an example are needed of each."""

    name: str
    """A part that a column plays, the key of the item in a row, the stream of its views: ``image``."""
    one: str
    """An item in words: ``an image``."""
    many: str
    """Items in words: ``images``."""
    none: str | None = None
    """What is said of a row without one; None: ``no image``."""
    example: Callable[[np.random.Generator], Any]
    """A small item, for checks and examples."""

    # --- cells of columns ---
    fits: Callable[[pa.DataType], bool]
    """Whether a column of an Arrow type can hold such items."""
    looks: Callable[[Column], bool] | None = None
    """Whether a column does hold them, where nobody says; None: wherever it fits."""
    over: frozenset[str] = frozenset()
    """The modalities that it wins against where a column looks like both."""
    lacks: Callable[[Column], str] | None = None
    """Why a column that fits does not do all the same, in a sentence; '': it does."""
    item: Callable[[Any, Mapping[str, Any]], Any] = as_it_is
    """A cell, and the cells of `beside` by their parts -> the item. Raises `OSError` or `DataError` where it cannot be
    used, in words that go on after ``image in column 'x'``."""
    empty: Callable[[Any], bool] = lambda cell: cell is None
    """Whether a cell holds nothing to encode."""
    beside: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Parts whose cells an item that is no file is made with -> the names by which their columns, of numbers, are
    known."""
    columns: Literal["one", "several"] = "one"
    """Several: the cells of several columns are one item. Such columns have to be named."""
    written: bool = False
    """Items are strings, from which a vocabulary can be learned."""
    together: int = 8_192
    """Items encoded at once; fewer where a decoded one is large."""
    shown: Callable[[Any], str] | None = None
    """An item as a small piece of HTML that needs nothing else, with whatever it says escaped; '' where it cannot be
    shown. None: it is told by its words, or by the number of its row."""

    # --- rows ---
    shape: Literal["rows", "whole"] = "rows"
    """Whole: the data is no table of items but one thing, with a `RowSet` of its own in `counterpoint.data`."""
    with_text: Literal["towers", "aside", "yields"] = "towers"
    """Beside a column of texts: an item and its text are the two sides of one thing, or the text is left aside, or the
    text alone is learned from."""
    with_label: tuple[str, ...] = ()
    """Parts that may stand beside an item and its label."""
    bags: bool = False
    """A label may belong to a bag of such items."""

    # --- files ---
    suffixes: frozenset[str] = frozenset()
    """Of files that hold one item each, with the dot; a folder of them is a data set."""
    damage: Damage | None = None
    """Why such a file cannot be used."""
    folders: Callable[[Path], list[Path]] | None = None
    """The folders below one that are an item each, as those of the frames of a film; their files are none."""
    feature: str = ""
    """The class of `datasets` for columns of such files."""
    formats: tuple[Format, ...] = ()
    """Files of many items."""

    # --- elsewhere ---
    needs: tuple[str, ...] = ()
    """Packages, as they are called where they are installed from."""
    then: tuple[str, ...] = ()
    """What can be typed after a run, which is written ``{run}``."""

    @property
    def noun(self) -> str:
        """An item in words, without the article."""
        return self.one.partition(" ")[2]

    @property
    def missing(self) -> str:
        """What a row lacks that has none."""
        return f"no {self.noun}" if self.none is None else self.none


# --- which there are -------------------------------------------------------------------------------------------

_registered: dict[str, Modality] = {}


def register(modality: Modality) -> Modality:
    """Add a modality of another package; from then on it is one like the others. Raises `ConfigError` where its name
    is taken."""
    if modality.name in discover():
        raise ConfigError(f"There is a modality {modality.name!r} already. Give the new one another name.")
    _registered[modality.name] = modality
    discover.cache_clear()
    of.cache_clear()
    return modality


@cache
def discover() -> Mapping[str, Modality]:
    """Name -> modality: those of the library in the order of their names, then those registered."""
    import counterpoint.modalities as package

    modules = (importlib.import_module(f"{package.__name__}.{i.name}") for i in pkgutil.iter_modules(package.__path__))
    found = {m.modality.name: m.modality for m in modules if hasattr(m, "modality")}
    return MappingProxyType(found | _registered)


def parts(name: str) -> tuple[Modality, ...]:
    """The modalities that one joins; of any other, itself alone.

    name: of a modality, or several with ``+`` between them.
    """
    return tuple(_find(part) for part in name.split(JOINED))


@cache
def of(name: str) -> Modality:
    """The modality of this name, also of one that joins several, ``image+table``; `ConfigError` where there is none."""
    first, *others = parts(name)
    return _joined(name, first, others) if others else first


def _find(name: str) -> Modality:
    known = discover()
    if name not in known:
        raise ConfigError(
            f"There is no modality {name!r}; there are {', '.join(known)}. If it is your own, import what registers it "
            "(counterpoint.modalities.base.register) before."
        )
    return known[name]


def _joined(name: str, first: Modality, others: list[Modality]) -> Modality:
    """One whose items are mappings with an item of each part. Without the first part there is none."""
    parts = [first, *others]

    def item(cell: Any, beside: Mapping[str, Any]) -> Any:
        return {m.name: m.item(cell[m.name], beside) for m in parts}

    return replace(
        first,
        name=name,
        one=" with ".join(m.one for m in parts),
        many=" with ".join(m.many for m in parts),
        item=item,
        empty=lambda cell: first.empty(cell[first.name]),
        together=min(m.together for m in parts),
        needs=tuple(dict.fromkeys(n for m in parts for n in m.needs)),
        then=(),
        shown=lambda cell: "".join(m.shown(cell[m.name]) for m in parts if m.shown),
        example=lambda rng: {m.name: m.example(rng) for m in parts},
    )


def of_column(column: Column) -> Modality | None:
    """The modality that a column looks like: of several, one that wins against the others."""
    one = [m for m in discover().values() if m.columns == "one"]
    found = [m for m in one if (m.looks(column) if m.looks else m.fits(column.type))]
    best = [m for m in found if not any(m.name in other.over for other in found)]
    return best[0] if best else None


def of_feature(feature: object) -> Modality | None:
    """The modality whose columns `datasets` has a class for, by a feature of this class."""
    name = type(feature).__name__
    return next((m for m in discover().values() if m.feature == name), None)


def of_suffix(suffix: str) -> Modality | None:
    """The modality of files of one item each with this suffix (with the dot, in lower case)."""
    return next((m for m in discover().values() if suffix in m.suffixes), None)


def format_of(suffix: str) -> Format | None:
    """The format of files of many items with this suffix."""
    return next((f for m in discover().values() for f in m.formats if suffix in f.suffixes), None)


# --- what modalities have in common ----------------------------------------------------------------------------


def source(value: Mapping[str, Any] | bytes | str) -> Any:
    """What to open of a file in a cell: a path, or a stream of the bytes.

    value: ``{bytes, path}``, bytes, or a path.
    """
    if isinstance(value, Mapping):
        value = value["bytes"] if value.get("bytes") is not None else value["path"]
    return io.BytesIO(value) if isinstance(value, bytes) else value


def first_file(column: Column) -> tuple[bytes, Path] | None:
    """How the first file of a column of files begins (b'': only its path is there), and its path; None: none is."""
    for cell in column.cells:
        value = cell.as_py()
        if value is not None and (value["bytes"] or value["path"]):
            return (value["bytes"] or b"")[:16], Path(value["path"] or "")
    return None


def holds_files(column: Column, starts: Callable[[bytes], bool], suffixes: frozenset[str]) -> bool:
    """Whether a column holds files that begin so, or, where only their paths are there, that end so.

    column: of which a few cells are looked at. starts: whether a file begins so. suffixes: of its name.
    """
    if not is_file(column.type) or (found := first_file(column)) is None:
        return False
    head, path = found
    return starts(head) if head else path.suffix.lower() in suffixes


def is_file(type_: pa.DataType) -> bool:
    """How `datasets` keeps encoded files: their bytes, or their path.

    type_: of a column.
    """
    import pyarrow as pa

    return bool(type_ == pa.struct({"bytes": pa.binary(), "path": pa.string()}))


def is_encoded(type_: pa.DataType) -> bool:
    """Bytes of a file, or a struct with bytes.

    type_: of a column.
    """
    import pyarrow as pa

    if pa.types.is_struct(type_):
        return bool(type_.get_field_index("bytes") >= 0)
    return bool(pa.types.is_binary(type_) or pa.types.is_large_binary(type_))


def is_text(type_: pa.DataType) -> bool:
    """Whether a column of this type_ holds texts, written out or in a dictionary."""
    import pyarrow as pa

    type_ = type_.value_type if pa.types.is_dictionary(type_) else type_
    return bool(pa.types.is_string(type_) or pa.types.is_large_string(type_) or type_ == pa.string_view())


def is_number(type_: pa.DataType) -> bool:
    """Whether a column of this type_ holds numbers."""
    import pyarrow as pa

    return bool(pa.types.is_integer(type_) or pa.types.is_floating(type_))


def is_truth(type_: pa.DataType) -> bool:
    """Whether a column of this type_ holds true and false."""
    import pyarrow as pa

    return bool(pa.types.is_boolean(type_))


def is_list(type_: pa.DataType) -> bool:
    """Whether a column of this type_ holds lists."""
    import pyarrow as pa

    return bool(pa.types.is_list(type_) or pa.types.is_large_list(type_) or pa.types.is_fixed_size_list(type_))


def is_numbers(type_: pa.DataType) -> bool:
    """A list of numbers.

    type_: of a column.
    """
    return is_list(type_) and is_number(type_.value_type)


def decoded(cell: Any, read: Callable[[Any], Any]) -> Any:
    """A file in a cell as ``read`` gives it. Raises `OSError` where the cell is empty too."""
    if cell is None or (isinstance(cell, Mapping) and not any(v is not None for v in cell.values())):
        raise OSError("is not there")
    return read(cell)
