"""Layouts that many data sets have: how each is known by its columns, and what is changed so that it is learned from.

=================  ==============================================================  =====================================
layout             columns                                                         what they become
=================  ==============================================================  =====================================
entailment         premise, hypothesis, label; sentence1, sentence2, gold_label    pairs, contradictions as negatives
lists of positives query, pos (lists), perhaps neg (lists)                         pairs: one for each positive
conversations      messages or conversations: lists of turns                       pairs: what is said, what is answered
lists of texts     sentences, set, paraphrases, captions (lists)                   pairs: each text and the next
judged pairs       two texts by name, and a label in words (duplicate, not ...)    scored: 1 and 0
scores as texts    two texts by name, and a score whose numbers are texts          scored
names as numbers   anchor or positive by name, one of them a number                pairs: the numbers as texts
labels as lists    a label by name, lists of one value                             labelled
=================  ==============================================================  =====================================
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from counterpoint.data import arrange
from counterpoint.data.arrange import PASSAGE, Change, as_number, meaning, says, split_path, spoken_by
from counterpoint.data.classes import is_class
from counterpoint.data.column_types import CLASS, LISTS, NUMBER, column_type
from counterpoint.data.files import linked
from counterpoint.data.log import Log
from counterpoint.data.roles import ANCHORS, LABELS, NEGATIVE, POSITIVES, SAMPLE, SCORES, Columns, find_name
from counterpoint.errors import DataError
from counterpoint.modalities.text import TEXT

if TYPE_CHECKING:
    import datasets

TURNS = ("messages", "conversations", "conversation", "dialog", "dialogue", "chat", "turns")
TOGETHER = ("sentences", "set", "paraphrases", "captions", "texts", "duplicates")
"""Names of lists of texts that belong together."""
GOLD = ("gold_label", "label", "labels")
VAGUE = ("a", "b", "left", "right", "source", "target")
"""Names of sides of a pair that columns of numbers have as well, and then mean nothing."""
CODES = ("entailment", "neutral", "contradiction")
"""What 0, 1 and 2 mean to the sets that number their labels so."""


@dataclass(frozen=True)
class View:
    """A data set as layouts look at it. types: column -> what it holds. given: the parts that the user named.

    dataset: of `datasets`.
    """

    dataset: datasets.Dataset
    types: Mapping[str, str]
    given: Columns = field(default_factory=dict)

    def named(self, names: tuple[str, ...], *types: str) -> str | None:
        """The column with the best-known of some names, of one of some types (none: of any)."""
        return find_name([n for n, t in self.types.items() if not types or t in types], names)

    def values(self, name: str) -> list[Any]:
        """The first cells of a column.

        name: of the column.
        """
        return self.dataset.data.column(name).slice(0, SAMPLE).to_pylist()

    def distinct(self, name: str) -> list[Any]:
        """The different cells of a column; of classes, their names.

        name: of the column.
        """
        names = getattr(self.dataset.features[name], "names", None)
        found = self.dataset.unique(name)
        return [names[v] if names and v is not None and v >= 0 else v for v in found]


def changes(dataset: datasets.Dataset, given: Columns) -> tuple[Change, ...]:
    """What is changed before the columns of a data set are looked at. given: the parts that the user named.

    Raises `DataError` for a column that is known by its name and cannot be used as it is, where passing over it would
    change what is learned.

    dataset: of `datasets`.
    """
    asked = [n for c in given.values() for n in ([c] if isinstance(c, str) else c)]
    held = tuple(("passages", n) for n in dataset.column_names if _holds_passages(dataset.data.column(n), n.lower()))
    dataset = arrange.arranged(dataset, held, Log())
    types = {n: column_type(dataset, n) for n in dataset.column_names}
    paths = [("path", n) for n in asked if n not in types and split_path(n, list(types)) and not _spelled(n, types)]
    made, found = {n for _, n in paths}, list[Change]([*held, *paths])
    for layout in LAYOUTS:
        if all(n in types or n in made for n in asked) and asked and layout.rows:
            continue  # the columns that were named are there: the rows stay as they are
        if extra := layout(View(dataset, types, given)):
            found += extra
            if layout.rows:
                break
    return tuple(found)


def _holds_passages(column: pa.ChunkedArray, name: str) -> bool:
    """Whether a column is a list of passages by its name, and of mappings that hold a text."""
    if not (pa.types.is_list(column.type) or pa.types.is_large_list(column.type)):
        return False
    one = column.type.value_type
    known = name in POSITIVES or NEGATIVE.fullmatch(name)
    return bool(known and pa.types.is_struct(one) and {one.field(i).name for i in range(one.num_fields)} & {*PASSAGE})


def hint(dataset: datasets.Dataset) -> str:
    """How texts within nested columns are named, where there are such; else nothing.

    dataset: of `datasets`.
    """
    found = [leaf for name in dataset.column_names for leaf in leaves(name, dataset.data.column(name))]
    if not found:
        return ""
    parts = f"anchor={found[0]},positive={found[1]}" if len(found) > 1 else f"text={found[0]}"
    return f" Texts within other columns are named by a path: --columns {parts}"


def leaves(name: str, column: pa.ChunkedArray) -> list[str]:
    """The paths of the texts in the first filled cell of a nested column; none for other columns.

    name: of the column. column: its cells.
    """
    if not pa.types.is_nested(column.type) or column.type == pa.list_(pa.string()):
        return []
    cell = next((c for c in (cell.as_py() for cell in column.slice(0, 100)) if c), None)
    found: list[str] = []

    def walk(path: str, value: Any) -> None:
        if isinstance(value, str) and " " in value.strip():
            found.append(path)
        elif isinstance(value, dict | list):
            steps = value.items() if isinstance(value, dict) else enumerate(value[:3])
            for step, part in steps:
                walk(f"{path}.{step}", part)

    walk(name, cell)
    return found[:4]


def _spelled(name: str, types: Mapping[str, str]) -> bool:
    return "+" in name and all(part in types for part in name.split("+"))


# --- the layouts -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Layout:
    """look: the changes that a data set of this layout needs; none for others. rows: whether other rows come of it."""

    look: Callable[[View], list[Change]]
    rows: bool

    def __call__(self, view: View) -> list[Change]:
        return self.look(view)


def _entailment(view: View) -> list[Change]:
    premise, hypothesis = view.named(("premise",), TEXT), view.named(("hypothesis",), TEXT)
    telling = premise is not None and hypothesis is not None
    if not telling:
        premise, hypothesis = view.named(("sentence1",), TEXT), view.named(("sentence2",), TEXT)
    label = view.named(GOLD, TEXT, NUMBER, CLASS)
    if not (premise and hypothesis and label):
        return []
    values = view.distinct(label)
    if any(isinstance(v, str) for v in values):
        words = {meaning(v, ()) for v in values if is_class(v)}
        short = all(len(str(v).strip()) < 2 for v in values if is_class(v))
        known = None not in words and "entailment" in words and (telling or not short)
        return [("entailment", premise, hypothesis, label, *_class_names(view, label))] if known else []
    numbers = {int(v) for v in values if is_class(v) and float(v).is_integer()}
    whole = all(float(v).is_integer() for v in values if is_class(v))
    if not whole or not numbers <= {-1, 0, 1, 2} or not (telling or label.lower() == "gold_label" or 2 in numbers):
        return []
    if telling or label.lower() == "gold_label":
        if 2 in numbers:
            return [("entailment", premise, hypothesis, label, *CODES)]
        raise DataError(
            f"Column {label!r} says in numbers ({', '.join(map(str, sorted(numbers)))}) what follows from a premise, "
            "and sets differ in which of them means that it does. Write entailment, neutral and contradiction instead; "
            f"or, where 1 means that it follows, type: --columns a={premise},b={hypothesis},score={label}"
        )
    if label.lower() in ("label", "labels") and numbers - {-1} == {0, 1, 2}:
        raise DataError(
            f"Column {label!r} holds 0, 1 and 2: they may say how alike {premise} and {hypothesis} are, or stand for "
            f"entailment, neutral and contradiction. For the first, type: --columns a={premise},b={hypothesis},score="
            f"{label}. For the second, write the words, or call the columns premise, hypothesis and label."
        )
    return []


def _class_names(view: View, label: str) -> tuple[str, ...]:
    """What the numbers of a column of classes mean, in the words of `arrange.MEANINGS`."""
    names = getattr(view.dataset.features[label], "names", None)
    return tuple(meaning(n, ()) or "" for n in names) if names else ()


def _positives(view: View) -> list[Change]:
    listed = [n for n, t in view.types.items() if t == LISTS]
    named = view.given.get("positive")
    positive = named if isinstance(named, str) and named in listed else find_name(listed, POSITIVES)
    if positive is None or (view.given and positive != named):
        return []
    anchor = view.given.get("anchor") or view.named(ANCHORS, TEXT)
    return [("each", positive)] if anchor else []


def _turns(view: View) -> list[Change]:
    for name, type_ in view.types.items():
        if type_.startswith(("list", "large_list")) and (name.lower() in TURNS or len(view.types) == 1):
            cells = next((cell for cell in view.values(name) if cell), None) or []
            if {who for who, said in map(spoken_by, cells) if said} & set(arrange.ASKS):
                return [("turns", name)]
    return []


def _together(view: View) -> list[Change]:
    name = view.named(TOGETHER, LISTS)
    return [("neighbours", name)] if name and TEXT not in view.types.values() else []


def _judged(view: View) -> list[Change]:
    sides, label = _sides(view), view.named(LABELS, TEXT, CLASS)
    if not sides or not label or label in sides:
        return []
    values = [v for v in view.distinct(label) if is_class(v)]
    if len(values) != 2 or sorted(says(v) for v in values if says(v) is not None) != [0.0, 1.0]:
        return []
    return [("judged", label, *(getattr(view.dataset.features[label], "names", None) or ()))]


def _scores(view: View) -> list[Change]:
    """A score of another type than a number changes what is learned where it is passed over."""
    named = view.given.get("score")
    name = named if isinstance(named, str) else None if view.given else view.named(SCORES)
    sides = True if named else _sides(view)
    if name is None or name not in view.types or not sides or view.types[name] in (NUMBER, "null"):
        return []
    cells = [v for v in view.values(name) if is_class(v)]
    if view.types[name] == TEXT and cells:
        good = sum(as_number(v) is not None for v in cells)
        if 2 * good > len(cells):
            return [("numbers", name)]
        if view.given:
            return []  # what was named is checked where parts are
        wrong = next(v for v in cells if as_number(v) is None)
        raise DataError(_unusable(view, name, f"words ({wrong!r})", "numbers"))
    if all(isinstance(v, list) and len(v) <= 1 for v in cells):
        return [("one", name)]
    if view.given:
        return []
    raise DataError(_unusable(view, name, view.types[name], "numbers"))


def _sides_as_texts(view: View) -> list[Change]:
    """Anchors or positives that are numbers, beside texts, where they are whole ones, as numbers of things are."""
    strong = [tuple(n for n in names if n not in VAGUE) for names in (ANCHORS, POSITIVES)]
    if view.given:
        named = [view.given.get(part) for part in ("anchor", "positive")]
        found = [n if isinstance(n, str) and n in view.types else None for n in named]
    else:
        found = [view.named(names, TEXT, NUMBER) for names in strong]
    types = [view.types[n] if n else None for n in found]
    if sorted(map(str, types)) != [NUMBER, TEXT]:
        return []
    name = str(found[types.index(NUMBER)])
    return [("texts", name)] if pa.types.is_integer(view.dataset.data.schema.field(name).type) else []


def _labels(view: View) -> list[Change]:
    named = view.given.get("label")
    name = named if isinstance(named, str) else None if view.given else find_name(list(view.types), LABELS)
    if name is None or name not in view.types:
        return []
    type_ = view.dataset.data.schema.field(name).type
    if not (pa.types.is_list(type_) or pa.types.is_large_list(type_) or pa.types.is_fixed_size_list(type_)):
        return []
    cells = [v for v in view.values(name) if v is not None]
    if all(len(v) <= 1 for v in cells) and not pa.types.is_nested(type_.value_type):
        return [("one", name)]
    most = max(map(len, cells))
    raise DataError(
        f"Column {name!r} holds lists of up to {most:,} labels, and a row has one class here. Write one label per row, "
        f"or learn without them: --columns {_other(view, name)}"
    )


def _sides(view: View) -> tuple[str, str] | None:
    """The two sides of a pair, by name, or because there are two texts."""
    anchor, positive = view.named(ANCHORS, TEXT), view.named(POSITIVES, TEXT)
    if anchor and positive:
        return anchor, positive
    others = (*SCORES, *LABELS)
    free = [n for n, t in view.types.items() if t == TEXT and n.lower() not in others and not NEGATIVE.fullmatch(n)]
    return (free[0], free[1]) if len(free) == 2 else None


def _unusable(view: View, name: str, holds: str, needed: str) -> str:
    sides = _sides(view)
    without = f" To learn from all pairs alike, type: --columns anchor={sides[0]},positive={sides[1]}" if sides else ""
    return f"Column {name!r} holds {holds}, and scores are {needed}. Write a number into each row.{without}"


def _other(view: View, name: str) -> str:
    texts = [n for n, t in view.types.items() if t == TEXT and n != name]
    return f"text={texts[0]}" if texts else "PART=COLUMN"


def _files(view: View) -> list[Change]:
    """Pictures that a table names and that are not there must not be learned from as texts."""
    for name in (n for n, t in view.types.items() if t == TEXT and linked.means_files(n) and not view.given):
        if (medium := linked.named_files(view.dataset.data.column(name))) is not None:
            first = next(v for v in view.values(name) if v)
            raise DataError(
                f"Column {name!r} names {medium.many} ({first!r}), and none of them is there: paths are relative to "
                f"the folder of the table. Put the files there, or name other columns: --columns {_other(view, name)}"
            )
    return []


LAYOUTS = (
    Layout(_files, rows=False),
    Layout(_labels, rows=False),
    Layout(_entailment, rows=True),
    Layout(_judged, rows=False),
    Layout(_scores, rows=False),
    Layout(_sides_as_texts, rows=False),
    Layout(_positives, rows=False),
    Layout(_turns, rows=True),
    Layout(_together, rows=True),
)
"""In the order in which they are tried; of those of which other rows come, the first that fits is taken."""
