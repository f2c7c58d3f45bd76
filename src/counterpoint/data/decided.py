"""From the columns of a data set to the parts they play, with the sentence that says what decided.

The decision table (first match wins):

=====================================================  ========
numbers, and times or rows like those before them      series
numbers and categories, perhaps a label                items, labelled (rows of a table)
a sound column, a label by name, a text or a task      labelled
an image or sound column and a text column             towers
an image or sound column and a label                   labelled
an image or sound column                               items
images, vectors or texts, a label and a bag by name    bags
one column of vectors, perhaps a label                 items, labelled
one column of DNA, perhaps a label by name             items, labelled
two text columns and a score                           scored
anchor and positive by name, perhaps negatives         pairs
one text column and a label                            labelled
one text column                                        texts
two text columns whose names say nothing               pairs
=====================================================  ========
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow.compute as pc

from counterpoint.data import steps, tabular
from counterpoint.data.column_types import column_type, describe
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

if TYPE_CHECKING:
    import datasets


def decided_schema(dataset: datasets.Dataset) -> Schema:
    types = {n: column_type(dataset, n) for n in dataset.column_names}
    if series := steps.series_schema(dataset, types, LABELS):
        return series
    if table := tabular.parts_of(dataset, types):
        return schema_of(dataset, "labelled" if "label" in table[0] else "items", *table)
    told = [n for n in types if not METADATA.fullmatch(n.lower())]
    pictures, sounds, vectors = ([n for n, t in types.items() if t == w] for w in ("image", "audio", "vector"))
    negatives = [n for n in told if types[n] in ("text", "texts") and NEGATIVE.fullmatch(n.lower())]
    texts = [n for n in told if types[n] == "text" and n not in negatives]
    if not (pictures or sounds):  # a lone column "url" is the data itself
        texts = texts or [n for n, t in types.items() if t == "text"]
    anchor, positive = find_name(texts, ANCHORS), find_name(texts, POSITIVES)
    few = [n for n in texts if n not in ((anchor, positive) if positive else ()) and _few_values(dataset, n)]
    label, label_why = _label(types, told, texts, few)
    free = [n for n in texts if n != label and n not in few] or [n for n in texts if n != label]

    if label and (bag := find_name(list(types), BAGS)) and label != bag:
        for role, found in (("image", pictures), ("vector", vectors), ("text", [n for n in free if n != bag])):
            if len(found) == 1:
                why = f"{role}s ({found[0]}) in bags ({bag}), which share a label ({label}{label_why})"
                return schema_of(dataset, "bags", {role: found[0], "label": label, "bag": bag}, why)
    for modality, found in (("image", pictures), ("audio", sounds)):
        if len(found) > 1:
            raise ambiguous(dataset, f"there are {len(found)} {modality} columns", f"{modality}={found[0]}")
    if pictures and sounds:
        what = f"{pictures[0]} holds images and {sounds[0]} recordings"
        raise ambiguous(dataset, what, f"image={pictures[0]}")
    if pictures:
        return _with_item(dataset, "image", pictures[0], free, label, label_why)
    if sounds:
        said = [n for n in free if n.lower() in TRANSCRIPTS or n not in few]
        if label and not label_why and (spoken := _spoken(types, sounds[0], said, label)):
            return schema_of(dataset, "labelled", *spoken)
        return _with_item(dataset, "audio", sounds[0], free, label, label_why)
    columns: dict[str, str | list[str]]
    if sequences := [n for n, t in types.items() if t == "dna"]:
        if len(sequences) > 1:
            raise ambiguous(dataset, f"there are {len(sequences)} columns of DNA", f"dna={sequences[0]}")
        if label and label_why:  # names of contigs and species repeat too
            label = None
        columns = {"dna": sequences[0], **({"label": label} if label else {})}
        what = f"DNA ({sequences[0]})" + (f" and its label ({label})" if label else " and nothing else to learn from")
        return schema_of(dataset, "labelled" if label else "items", columns, what)
    if len(vectors) == 1 and not free:
        columns = {"vector": vectors[0], **({"label": label} if label else {})}
        what = f"vectors ({vectors[0]})" + (f" and their label ({label}{label_why})" if label else " and nothing else")
        return schema_of(dataset, "labelled" if label else "items", columns, what)
    if not free:
        cells = [n for n in told if types[n] in ("number", "class", "text") and n != label]
        table = f" As rows of a table: --columns table={'+'.join(cells)}" if len(cells) > 1 else ""
        raise DataError(
            f"No column holds text, images or recordings to learn from; there are {describe(dataset)}.{table}"
        )
    named = anchor is not None and positive is not None
    pair = (anchor, positive) if anchor and positive else (free[0], free[1]) if len(free) == 2 else None
    # A label beside two named sides of a pair judges the pair; beside any two texts it may be the class of the row.
    numbers = [n for n in told if types[n] == "number" and (named or n != label)]
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
        return schema_of(dataset, "labelled", {"text": text, "label": label}, why)
    if len(free) == 1 and not negatives:
        why = f"one column of text ({free[0]}) and nothing that goes with it"
        return schema_of(dataset, "texts", {"text": free[0]}, why)
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


def _spoken(
    types: dict[str, str], audio: str, texts: list[str], label: str
) -> tuple[dict[str, str | list[str]], str] | None:
    """A recording, its label, and what is said in it, or the number of the task that it comes in; None: neither."""
    task = find_name([n for n in types if n != label], ("task",))
    texts = [n for n in texts if n != task]
    text = texts[0] if len(texts) == 1 else find_name(texts, TRANSCRIPTS)
    if not (text or task):
        return None
    if task and types[task] != "number":
        raise DataError(
            f"Column {task!r} holds {types[task]}. Tasks are numbers, in the order in which they come. Leave it out: "
            f"--columns audio={audio},label={label}"
        )
    columns: dict[str, str | list[str]] = {"audio": audio, "label": label}
    columns |= {role: name for role, name in (("text", text), ("task", task)) if name}
    beside = " and ".join(f"{what} ({n})" for what, n in (("what is said", text), ("its task", task)) if n)
    return columns, f"a recording, its label ({label}), {beside}"


def _with_item(
    dataset: datasets.Dataset, modality: str, column: str, texts: list[str], label: str | None, label_why: str
) -> Schema:
    """An image or a recording, with what goes with it."""
    what, plural = {"image": ("an image", "images"), "audio": ("a recording", "recordings")}[modality]
    text = texts[0] if len(texts) == 1 else find_name(texts, TRANSCRIPTS)
    if text:
        why = f"{what} and a text ({text}) of one thing"
        if label:
            why += f"; {label} is left aside (to learn from it: --columns {modality}={column},label={label})"
        return schema_of(dataset, "towers", {modality: column, "text": text}, why)
    if texts:
        many = f"{what} goes with {len(texts)} columns of text"
        raise ambiguous(dataset, many, f"{modality}={column},text={texts[0]}")
    if label:
        why = f"{what} and its label ({label}{label_why})"
        return schema_of(dataset, "labelled", {modality: column, "label": label}, why)
    return schema_of(dataset, "items", {modality: column}, f"{plural} and nothing else")


def _label(types: dict[str, str], told: list[str], texts: list[str], few: list[str]) -> tuple[str | None, str]:
    """A column of classes, by its type, by its name, or because a text column holds few values; and why."""
    if by_type := [n for n in told if types[n] == "class"]:
        return find_name(by_type, LABELS) or by_type[0], ""
    if named := find_name([n for n in told if types[n] in ("number", "text")], LABELS):
        return named, ""
    classes = [n for n in few if n.lower() not in ORIGINS]
    item = {"image", "audio"} & set(types.values())
    if (len(classes) == 1 and len(texts) > len(few)) or (len(classes) == len(few) == 1 and item):
        return classes[0], ", which holds few values"
    return None, ""


def _few_values(dataset: datasets.Dataset, name: str) -> bool:
    """Whether a text column repeats itself so often that it names classes or origins rather than says something."""
    values = dataset.data.column(name).slice(0, SAMPLE)
    return len(values) >= 20 and pc.count_distinct(values).as_py() * 10 <= len(values)


def ambiguous(dataset: datasets.Dataset, what: str, type_this: str, *, extra: str = "") -> DataError:
    return DataError(
        f"The columns do not say what to learn: {what}. They are {describe(dataset)}. "
        f"Say it, for example: --columns {type_this}{extra}"
    )
