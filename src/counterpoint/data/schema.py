"""Which column plays which part: the shape of the data decides which methods can learn from it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

if TYPE_CHECKING:
    import numpy as np

    from counterpoint.data.log import Log
    from counterpoint.data.sampler import Sampler

Kind: TypeAlias = Literal["texts", "pairs", "scored", "labelled", "items", "bags", "towers", "graph", "series", "mixed"]
"""What rows hold.

texts: one text. pairs: anchor, positive, perhaps negatives. scored: a, b, score. labelled: one item and its label.
items: one item of another modality (an image, a recording, a sequence) and nothing else. bags: several
items that share one label. towers: two modalities of one thing. graph: the nodes of one graph. series: windows
of one series. mixed: rows of several of these kinds, each from a source of one kind.
"""

SOURCED: tuple[Kind, ...] = ("texts", "pairs", "scored", "labelled")
"""Kinds whose rows may say which source they are from, and of which several sources can be mixed."""

Row: TypeAlias = dict[str, Any]
"""A row after the schema was applied. Keys by kind:

texts: ``text``. pairs: ``anchor``, ``positive``, ``negatives`` (a list, may be empty), and, where named, ``positives``
(a list of further ones). scored: ``a``, ``b``, ``score`` (float). labelled: the item under its modality's name
(``text``, ``image``), and ``label`` (int); a recording may have ``text``, what is said in it (None: not known), and
``task`` (int), of tasks that come one after another. Rows of these four kinds may have ``source`` (int): which file,
task, language or domain the row is from. items: the item under its modality's name. bags: ``bag`` (a list of items) and
``label`` (int). towers: one key per stream, a missing one being None. graph: ``node`` (a
`counterpoint.data.nodes.Node`), and ``label`` where it has one. series: ``series`` (L, C), ``horizon`` (H, C): a
window, and what follows it. mixed: as the kind of the row's source says, and ``source``. Always ``row``: the row's
number in the data set (int).
"""


@dataclass(frozen=True, kw_only=True)
class Schema:
    """The parts the columns play.

    kind: what the rows hold. columns: row key -> column, or list of columns (negatives). modalities: row key ->
    text, image, ... labels: the names of the classes, in the order of their numbers (labelled only). sources: the names
    of the sources, likewise (where a column plays that part, or files are mixed). parts: of each source, what its rows
    hold (where files are mixed). range: the lowest and the highest score that there can be (scored only; None: nobody
    said). changes: what is changed in a table before its columns play these parts (`counterpoint.data.arrange`).
    notes: sentences on columns that are known by their names and play none. why: the sentence that says what decided.
    """

    kind: Kind
    columns: dict[str, str | list[str]]
    modalities: dict[str, str] = field(default_factory=dict)
    labels: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    parts: tuple[Schema, ...] = ()
    range: tuple[float, float] | None = None
    changes: tuple[tuple[str, ...], ...] = ()
    notes: tuple[str, ...] = ()
    why: str = ""


CELLS_FROM = 10_000
"""Rows whose cells `Known` holds, at most."""


@dataclass(frozen=True, kw_only=True)
class Known:
    """What rows tell of their items of one modality before any of them is learned from.

    width: numbers in an item that is a vector, features of one that is a node (0: items are neither). cells: of items
    that are made of several columns, column -> its cells in at most `CELLS_FROM` of the rows. names, mean, deviation:
    of the C channels of a series, over its training part.
    """

    width: int = 0
    cells: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    names: tuple[str, ...] = ()
    mean: Sequence[float] = ()
    deviation: Sequence[float] = ()


class RowSet(Protocol):
    """Rows that can be taken in any order: `Rows` of a table, and what stands for rows of another shape (the nodes of a
    graph, bags). index: ``(len,)``, what identifies the rows; two sets with the same index are in the same order."""

    index: np.ndarray

    @property
    def schema(self) -> Schema:
        """What the rows hold."""
        ...

    @property
    def log(self) -> Log:
        """What was left out of the rows, and why."""
        ...

    def fingerprint(self) -> int:
        """32 bits of what the rows hold, by which a run knows whether it goes on with the rows it was begun with."""
        ...

    def __len__(self) -> int: ...
    def __getitem__(self, which: Any) -> Any:
        """A `Row` at a position; a list of them for a slice or an array of positions."""
        ...

    def __iter__(self) -> Iterator[Row]: ...
    def texts(self, limit: int | None = None) -> Iterator[str]:
        """Every text of the rows, for training a tokenizer; none where rows have none.

        limit: the most that are wanted (None: all).
        """
        ...

    def known(self, modality: str) -> Known:
        """What an encoder of this modality can be made to fit; an empty `Known` where rows hold no such items."""
        ...

    @property
    def table(self) -> bool:
        """Whether these are the rows of one table."""
        ...

    @property
    def independent(self) -> bool:
        """Whether no row depends on another: some may be held out, and a probe may learn from any of them."""
        ...

    @property
    def whole(self) -> bool:
        """Whether every batch holds all rows, as that of the nodes of a graph."""
        ...

    @property
    def mixed(self) -> bool:
        """Whether every batch has to be of one source, as the sources are not alike."""
        ...

    def by_source(self) -> dict[str, tuple[RowSet, np.ndarray]]:
        """Source -> its rows, and their positions among these; {} where nothing says which source rows are from."""
        ...

    def taught(self) -> RowSet | None:
        """The rows that a probe learns from; None where there are none."""
        ...

    def sampler(self, batch: int, seed: int) -> Sampler:
        """The batches that suit the rows.

        batch: rows of each. seed: of their order."""
        ...

    def roomy(self, batch: int, seed: int) -> int:
        """The largest of ``batch``, its half, its quarter … in which at least half of the rows find a place where those
        that must not meet do not.

        seed: of the order that is tried."""
        ...
