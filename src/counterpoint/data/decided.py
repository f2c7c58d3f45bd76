"""From the columns of a data set to the parts they play, with the sentence that says what decided.

The decision table (first match wins):

=====================================================  ========
numbers, and times or rows like those before them      series
numbers and categories, perhaps a label                items, labelled (rows of a table)
an item, a label by name, and what is told of it       labelled
an item and a text column                              towers
an item and a label                                    labelled
an item                                                items
items or texts, a label and a bag by name              bags
two text columns and a score                           scored
anchor and positive by name, perhaps negatives         pairs
one text column and a label                            labelled
one text column                                        texts
two text columns whose names say nothing               pairs
=====================================================  ========

An item is one of a modality whose columns are told by their type and values (images, recordings, DNA, vectors ...). Of
some modalities the text column is left aside, and some are looked at only where there is no text: see
`counterpoint.modalities.base.Modality.with_text`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow.compute as pc

from counterpoint.data import steps, tabular
from counterpoint.data.column_types import CLASS, LISTS, NUMBER, column_of, column_type, describe
from counterpoint.data.roles import (
    ANCHORS,
    BAGS,
    LABELS,
    METADATA,
    NEGATIVE,
    ORIGINS,
    POSITIVES,
    SAMPLE,
    SCORES,
    TEXTS,
    TRANSCRIPTS,
    find_name,
)
from counterpoint.data.schema import Schema
from counterpoint.data.schema_of import schema_of
from counterpoint.errors import DataError
from counterpoint.modalities.base import Modality, discover
from counterpoint.modalities.text import TEXT

if TYPE_CHECKING:
    import datasets


def decided_schema(dataset: datasets.Dataset) -> Schema:
    """The schema that the columns of a dataset decide, by their types and names. Raises `DataError` where they allow
    more than one reading."""
    types = {n: column_type(dataset, n) for n in dataset.column_names}
    if series := steps.series_schema(dataset, types, LABELS):
        return series
    if table := tabular.parts_of(dataset, types):
        return schema_of(dataset, "labelled" if "label" in table[0] else "items", *table)
    told = [n for n in types if not METADATA.fullmatch(n.lower())]
    items = {m: [n for n, t in types.items() if t == m.name] for m in discover().values() if m.name != TEXT}
    items = {m: found for m, found in items.items() if found}
    shown = [m for m in items if m.with_text == "towers"]
    negatives = [n for n in told if types[n] in (TEXT, LISTS) and NEGATIVE.fullmatch(n.lower())]
    texts = [n for n in told if types[n] == TEXT and n not in negatives]
    if not shown:  # a lone column "url" is the data itself
        texts = texts or [n for n, t in types.items() if t == TEXT]
    anchor, positive = find_name(texts, ANCHORS), find_name(texts, POSITIVES)
    few = [n for n in texts if n not in ((anchor, positive) if positive else ()) and _few_values(dataset, n)]
    label, label_why = _label(types, told, texts, few, shown)
    free = [n for n in texts if n != label and n not in few] or [n for n in texts if n != label]

    if label and (bag := find_name(list(types), BAGS)) and label != bag:
        bagged = {m.name: found for m, found in items.items() if m.bags} | {TEXT: [n for n in free if n != bag]}
        for role, found in bagged.items():
            if len(found) == 1:
                why = f"{role}s ({found[0]}) in bags ({bag}), which share a label ({label}{label_why})"
                return schema_of(dataset, "bags", {role: found[0], "label": label, "bag": bag}, why)
    if found := [m for m in items if m.with_text != "yields"]:
        return _with_item(dataset, {m: items[m] for m in shown or found}, types, free, few, label, label_why)
    if not free and len(items) == 1 and len(next(iter(items.values()))) == 1:
        return _with_item(dataset, items, types, free, few, label, label_why)
    if not free:
        table = _rows_of(dataset, told, label)
        raise DataError(f"No column holds {_told_apart()} to learn from; there are {describe(dataset)}.{table}")
    named = anchor is not None and positive is not None
    pair = (anchor, positive) if anchor and positive else (free[0], free[1]) if len(free) == 2 else None
    # A label beside two named sides of a pair judges the pair; beside any two texts it may be the class of the row.
    numbers = [n for n in told if types[n] == NUMBER and (named or n != label)]
    score = find_name(numbers, (*SCORES, "label")) or (numbers[0] if len(numbers) == 1 else None)
    if pair and score and not negatives:
        a, b = pair
        why = f"two texts ({a}, {b}) and a number ({score}) that says how alike they are"
        return schema_of(dataset, "scored", {"a": a, "b": b, "score": score}, why)
    if anchor and positive:
        if label and not negatives:
            what = f"{anchor} and {positive} may be alike in every row, or alike or not as {label} says"
            raise ambiguous(dataset, what, f"anchor={anchor},positive={positive}")
        why = f"{anchor} and {positive} are names of the two sides of a pair"
        return _pairs(dataset, anchor, positive, negatives, why)
    if label and (text := free[0] if len(free) == 1 else find_name(free, TEXTS)):
        why = f"a text ({text}) and its label ({label}{label_why})"
        return schema_of(dataset, "labelled", {TEXT: text, "label": label}, why)
    if len(free) == 1 and not negatives:
        why = f"one column of text ({free[0]}) and nothing that goes with it"
        return schema_of(dataset, "texts", {TEXT: free[0]}, why)
    if len(free) == 2:
        why = f"two columns of text ({free[0]}, {free[1]}); their names do not tell, so the first is the anchor"
        return _pairs(dataset, free[0], free[1], negatives, why)
    options = f"text={free[0]}" if len(free) < 2 else f"anchor={free[0]},positive={free[1]}"
    raise ambiguous(dataset, f"there are {len(free)} columns of text and no names that tell", options)


def _pairs(dataset: datasets.Dataset, anchor: str, positive: str, negatives: list[str], why: str) -> Schema:
    columns: dict[str, str | list[str]] = {"anchor": anchor, "positive": positive}
    if negatives:
        columns["negatives"] = negatives
        why += f", with negatives in {', '.join(negatives)}"
    return schema_of(dataset, "pairs", columns, why)


def _with_item(
    dataset: datasets.Dataset,
    items: dict[Modality, list[str]],
    types: dict[str, str],
    texts: list[str],
    few: list[str],
    label: str | None,
    label_why: str,
) -> Schema:
    """One item, with what goes with it.

    items: modality -> the columns that hold such. texts, few: columns of texts, and those of them that hold few values.
    """
    (modality, (column, *more)), *others = items.items()
    if more:
        raise ambiguous(dataset, f"there are {1 + len(more)} columns of {modality.many}", f"{modality.name}={column}")
    if others:
        what = " and ".join(f"{c[0]} {'holds ' if m is modality else ''}{m.many}" for m, c in items.items())
        raise ambiguous(dataset, what, f"{modality.name}={column}")
    if modality.with_text == "aside":
        texts, label = [], None if label_why else label  # names of contigs and species repeat too
    if modality.with_label and label and not label_why:
        said = [n for n in texts if n.lower() in TRANSCRIPTS or n not in few]
        if told := _told(modality, types, column, said, label):
            return schema_of(dataset, "labelled", *told)
    text = texts[0] if len(texts) == 1 else find_name(texts, TRANSCRIPTS)
    if text:
        why = f"{modality.one} and a text ({text}) of one thing"
        if label:
            why += f"; {label} is left aside (to learn from it: --columns {modality.name}={column},label={label})"
        return schema_of(dataset, "towers", {modality.name: column, TEXT: text}, why)
    if texts:
        many = f"{modality.one} goes with {len(texts)} columns of text"
        raise ambiguous(dataset, many, f"{modality.name}={column},text={texts[0]}")
    if label:
        why = f"{modality.one} and its label ({label}{label_why})"
        return schema_of(dataset, "labelled", {modality.name: column, "label": label}, why)
    return schema_of(dataset, "items", {modality.name: column}, f"{modality.many} and nothing else")


def _told(
    modality: Modality, types: dict[str, str], item: str, texts: list[str], label: str
) -> tuple[dict[str, str | list[str]], str] | None:
    """An item, its label, and what is said in it, or the number of the task that it comes in; None: neither."""
    task = find_name([n for n in types if n != label], ("task",)) if "task" in modality.with_label else None
    texts = [n for n in texts if n != task] if TEXT in modality.with_label else []
    text = texts[0] if len(texts) == 1 else find_name(texts, TRANSCRIPTS)
    if not (text or task):
        return None
    if task and types[task] != NUMBER:
        raise DataError(
            f"Column {task!r} holds {types[task]}. Tasks are numbers, in the order in which they come. Leave it out: "
            f"--columns {modality.name}={item},label={label}"
        )
    columns: dict[str, str | list[str]] = {modality.name: item, "label": label}
    columns |= {role: name for role, name in ((TEXT, text), ("task", task)) if name}
    beside = " and ".join(f"{what} ({n})" for what, n in (("what is said", text), ("its task", task)) if n)
    return columns, f"{modality.one}, its label ({label}), {beside}"


def _told_apart() -> str:
    """The modalities whose columns are told by what they hold."""
    names = [m.many for m in discover().values() if m.columns == "one" and m.shape == "rows" and m.name != TEXT]
    return f"text, {', '.join(names[:-1])} or {names[-1]}"


def _rows_of(dataset: datasets.Dataset, told: list[str], label: str | None) -> str:
    """What to type where the columns could be the cells of one item."""
    for m in (m for m in discover().values() if m.columns == "several" and m.shape == "rows"):
        cells = [n for n in told if n != label and m.fits(column_of(dataset, n).type)]
        if len(cells) > 1:
            return f" As {m.many}: --columns {m.name}={'+'.join(cells)}"
    return ""


def _label(
    types: dict[str, str], told: list[str], texts: list[str], few: list[str], shown: list[Modality]
) -> tuple[str | None, str]:
    """A column of classes, by its type, by its name, or because a text column holds few values; and why."""
    if by_type := [n for n in told if types[n] == CLASS]:
        return find_name(by_type, LABELS) or by_type[0], ""
    if named := find_name([n for n in told if types[n] in (NUMBER, TEXT)], LABELS):
        return named, ""
    classes = [n for n in few if n.lower() not in ORIGINS]
    if (len(classes) == 1 and len(texts) > len(few)) or (len(classes) == len(few) == 1 and shown):
        return classes[0], ", which holds few values"
    return None, ""


def _few_values(dataset: datasets.Dataset, name: str) -> bool:
    """Whether a text column repeats itself so often that it names classes or origins rather than says something."""
    values = dataset.data.column(name).slice(0, SAMPLE)
    return len(values) >= 20 and pc.count_distinct(values).as_py() * 10 <= len(values)


def ambiguous(dataset: datasets.Dataset, what: str, type_this: str, *, extra: str = "") -> DataError:
    """The error for columns that allow more than one reading.

    dataset: of `datasets`. what: what is open, a clause. type_this: an example for ``--columns``. extra: a sentence
    more.
    """
    return DataError(
        f"The columns do not say what to learn: {what}. They are {describe(dataset)}. "
        f"Say it, for example: --columns {type_this}{extra}"
    )
