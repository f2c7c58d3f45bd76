"""Rows of a table, numbers and categories: which columns are its cells, and which one holds classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import pyarrow.compute as pc

from counterpoint.data.classes import holds_class
from counterpoint.data.column_types import CLASS, NUMBER
from counterpoint.data.roles import ANCHORS, LABELS, METADATA, POSITIVES, SAMPLE, SCORES, TRANSCRIPTS, find_name
from counterpoint.modalities.table import modality
from counterpoint.modalities.text import TEXT

if TYPE_CHECKING:
    import datasets

OUTCOMES = (*LABELS, "target", "y", "outcome", "species", "diagnosis")
"""Names of the column of classes in a table."""
VAGUE = ("a", "b", "left", "right", "source", "target")
SAID = tuple(n for n in (*TRANSCRIPTS, *ANCHORS, *POSITIVES) if n not in VAGUE)
"""Names of columns of text that are learned from, however short their texts are."""
SHORT = 4
"""Words of a typical text up to which it names something rather than says something."""
PHRASE = 3
"""Words of a typical text from which it is a phrase rather than a category, where something else says so too."""
MOST_CLASSES = 100


def parts_of(dataset: datasets.Dataset, types: Mapping[str, str]) -> tuple[dict[str, str | list[str]], str] | None:
    """The parts that the columns of a table play, and the sentence that says why; None where the rows are no table.

    types: column -> what it holds. dataset: of `datasets`.
    """
    told = [n for n in types if not METADATA.fullmatch(n.lower())]
    if any(types[n] not in (NUMBER, TEXT, CLASS, "null") and "[" not in types[n] for n in told):
        return None
    numbers = [n for n in told if types[n] == NUMBER]
    words = [n for n in told if types[n] == TEXT]
    if any(n.lower() in SAID for n in words) or (len(words) == 2 and _scored(dataset, words, numbers)):
        return None
    names = [n for n in words if not is_category(dataset, n)]
    if any(_typical_words(dataset, n) > SHORT for n in names) or (names and len(numbers) < 2):
        return None
    categories = [n for n in told if n in words and n not in names] + [n for n in told if types[n] == CLASS]
    label, why = _label(dataset, told, numbers, categories)
    cells = [n for n in told if n in (*numbers, *categories) and n != label]
    if len(cells) < 2 or (not numbers and len(cells) + bool(label) < 3):
        return None
    aside = [n for n in told if n not in cells and n != label]
    left = f"; left aside: {', '.join(aside)}" if aside else ""
    what = f"rows of a table ({_few(cells)})"
    if label is None:
        return {modality.name: cells}, what + left
    other = f" (without it: --columns table={'+'.join(cells)})" if why else ""
    return {modality.name: cells, "label": label}, f"{what} and their label ({label}{why}){other}{left}"


def _scored(dataset: datasets.Dataset, words: Sequence[str], numbers: Sequence[str]) -> bool:
    """Whether rows are scored pairs though texts repeat: a number has the name of a score, the texts are phrases."""
    score = find_name(numbers, SCORES)
    return score is not None and all(_typical_words(dataset, n) >= PHRASE for n in words)


def _label(
    dataset: datasets.Dataset, told: Sequence[str], numbers: Sequence[str], categories: Sequence[str]
) -> tuple[str | None, str]:
    """The column of classes, by its name or because it is the last one and holds words that repeat; and why."""
    named = find_name([*numbers, *categories], OUTCOMES)
    if named is not None and _distinct(dataset, named) <= min(MOST_CLASSES, max(2, len(dataset) // 2)):
        return named, ""
    last = told[-1] if told else ""
    if last in categories and 2 <= _distinct(dataset, last) <= MOST_CLASSES:
        return last, ", the last column, which holds few values"
    return None, ""


def is_category(dataset: datasets.Dataset, name: str) -> bool:
    """Whether a column of texts repeats so few and short ones that they are names of categories.

    dataset: of `datasets`. name: of the column.
    """
    distinct, rows = _distinct(dataset, name), min(len(dataset), SAMPLE)
    return distinct * (2 if rows < 200 else 10) <= rows and _typical_words(dataset, name) <= 2 * SHORT


def sorted_by(dataset: datasets.Dataset, names: Sequence[str]) -> str | None:
    """The column of whole numbers by which rows are sorted, if there is one with few values: their classes.

    dataset: of `datasets`. names: of the columns.
    """
    for name in names:
        column = dataset.data.column(name)
        values = column.drop_null()
        few = len(values) > 1 and pc.count_distinct(values).as_py() * 10 <= len(values)
        if few and pc.all(pc.greater_equal(values[1:], values[:-1])).as_py() and values[0] != values[-1]:
            return name
    return None


def _distinct(dataset: datasets.Dataset, name: str) -> int:
    values = dataset.data.column(name).slice(0, SAMPLE)
    return int(pc.count_distinct(values.filter(holds_class(values))).as_py())


def _typical_words(dataset: datasets.Dataset, name: str) -> int:
    texts = [v for v in dataset.data.column(name).slice(0, 200).to_pylist() if v]
    counts = sorted(len(t.split()) for t in texts)
    return counts[len(counts) // 2] if counts else 0


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
