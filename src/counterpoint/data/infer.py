"""From the columns of a data set to the parts they play, with the sentence that says what decided.

The decision table (first match wins):

=====================================================  ========
numbers, and times or rows like those before them      series
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

import difflib
import math
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from counterpoint.data import steps
from counterpoint.data.audio import RATES
from counterpoint.data.dna import clean, is_dna
from counterpoint.data.files import media
from counterpoint.data.schema import SOURCED, Kind, Schema
from counterpoint.errors import DataError

if TYPE_CHECKING:
    import datasets

Columns: TypeAlias = Mapping[str, str | list[str]]

ANCHORS = (
    "anchor", "query", "question", "sentence1", "sentence_1", "text1", "text_1", "premise", "a", "left", "source",
)  # fmt: skip
POSITIVES = (
    "positive", "pos", "answer", "document", "passage", "context", "response", "sentence2", "sentence_2", "text2",
    "text_2", "hypothesis", "b", "right", "target",
)  # fmt: skip
NEGATIVE = re.compile(r"(hard_?)?neg(ative)?s?(_?\d+)?")
SCORES = ("score", "similarity", "similarity_score", "relatedness", "rating")
LABELS = ("label", "labels", "class", "category", "intent", "topic", "coarse", "cls", "label_name")
TEXTS = ("text", "sentence", "caption", "description", "content", "utterance", "document")
TRANSCRIPTS = ("caption", "transcript", *TEXTS)
METADATA = re.compile(r"split|fold|key|lang(uage)?|url|path|file(_?name)?|(.*_)?(id|idx|index|uuid)\d*")
"""Names of columns that tell about a row and are never learned from, unless they are named."""
BAGS = ("bag", "bag_id", "slide", "slide_id")
"""Names of a column that says which bag a labelled row belongs to."""
ORIGINS = ("source", "subset", "domain", "dataset", "origin", "corpus")
"""Names that tell where a row comes from when they hold few values."""

RANGE = "range"
"""Named beside the parts that columns play: the lowest and the highest score that there can be, as ``0..5``."""

FEW = 20  # values that tell DNA from text
SAMPLE = 5_000  # rows looked at where values decide, and of a stream

_NEEDS: dict[frozenset[str], Kind] = {
    frozenset({"anchor", "positive"}): "pairs",
    frozenset({"anchor", "positive", "negatives"}): "pairs",
    frozenset({"a", "b", "score"}): "scored",
    frozenset({"text", "label"}): "labelled",
    frozenset({"image", "label"}): "labelled",
    frozenset({"image", "text"}): "towers",
    frozenset({"text"}): "texts",
    frozenset({"image"}): "items",
    frozenset({"audio", "label"}): "labelled",
    frozenset({"audio", "text"}): "towers",
    frozenset({"audio", "text", "label"}): "labelled",
    frozenset({"audio", "label", "task"}): "labelled",
    frozenset({"audio", "text", "label", "task"}): "labelled",
    frozenset({"audio"}): "items",
    frozenset({"table"}): "items",
    frozenset({"table", "label"}): "labelled",
    frozenset({"image", "table"}): "towers",
    frozenset({"vector"}): "items",
    frozenset({"vector", "label"}): "labelled",
    frozenset({"dna"}): "items",
    frozenset({"dna", "label"}): "labelled",
    **{frozenset({item, "label", "bag"}): "bags" for item in ("image", "text", "vector")},
}
ROLES = (
    "text | image | anchor, positive[, positives][, negatives] | a, b, score | text, label | image, label | "
    "image, text | audio[, label or text] | audio, label[, text][, task] | "
    "dna[, label] | vector[, label] | table[, label or image] (table=a+b+c) | image or text or vector, label, bag | "
    "series[, time] (series=a+b+c); and, with texts or pairs, source; with scores, range=LOWEST..HIGHEST "
    "(positives are further ones; they and negatives may be given several times, or as a list)"
)


def infer(dataset: datasets.Dataset | datasets.IterableDataset, *, columns: Columns | None = None) -> Schema:
    """The schema of a data set: by ``columns`` (part -> column) where given, else by names, types and values.

    Raises `DataError`, naming the columns and the ``--columns`` to type, when a column is missing, of the wrong type
    for its part, or when the columns allow more than one reading.
    """
    from datasets import Dataset, IterableDataset

    if isinstance(dataset, IterableDataset):
        dataset = media.encoded(dataset)
        rows = list(dataset.take(SAMPLE))
        if not rows:
            raise DataError("The stream gives no rows. Check the source.")
        dataset = Dataset.from_list(rows, features=dataset.features)
    if len(dataset) == 0:
        raise DataError("The data set holds no rows. Check the source and --split.")
    columns = columns if isinstance(columns, Mapping) else {}
    given = without_range(columns)
    schema = _named(dataset, given) if given else _decide(dataset)
    return schema if len(given) == len(columns) else with_range(schema, columns[RANGE])


def without_range(columns: Columns) -> Columns:
    """The parts that columns play; the range of the scores is named among them and is no column."""
    return {part: column for part, column in columns.items() if part != RANGE}


def with_range(schema: Schema, said: str | list[str]) -> Schema:
    """The schema of scored pairs with the scores that there can be, said as ``LOWEST..HIGHEST``."""
    if schema.kind != "scored":
        raise DataError(
            f"{RANGE}={said} says what scores there can be, and these rows have none: {schema.why} Leave it out, or "
            "name the columns of scored pairs: --columns a=COLUMN,b=COLUMN,score=COLUMN"
        )
    try:
        low, high = map(float, str(said).split(".."))
    except ValueError:
        low = high = 0.0
    if not -math.inf < low < high < math.inf:
        raise DataError(
            f"{RANGE}={said}: expected the lowest and the highest score that there can be, for example --columns "
            f"{RANGE}=0..5"
        )
    return replace(schema, range=(low, high))


# --- types -----------------------------------------------------------------------------------------------------


def column_type(dataset: datasets.Dataset, name: str) -> str:
    """text, texts (a list of them), number, class, image, or what Arrow calls it."""
    feature = dataset.features[name]
    if type(feature).__name__ in ("Image", "Audio", "ClassLabel"):
        return {"Image": "image", "Audio": "audio", "ClassLabel": "class"}[type(feature).__name__]
    type_ = dataset.data.schema.field(name).type
    if type_ == media.ARROW:
        return media.modality(dataset.data.column(name))
    if is_numbers(type_) and _rate(dataset):
        return "audio"
    if pa.types.is_string(type_) or pa.types.is_large_string(type_):
        return "dna" if is_dna(dataset.data.column(name).slice(0, FEW).to_pylist()) else "text"
    if is_list(type_) and (pa.types.is_string(type_.value_type) or pa.types.is_large_string(type_.value_type)):
        return "texts"
    if is_list(type_) and pa.types.is_floating(type_.value_type):
        return "vector"
    if pa.types.is_integer(type_) or pa.types.is_floating(type_) or pa.types.is_boolean(type_):
        return "number"
    return str(type_)


def is_numbers(type_: pa.DataType) -> bool:
    """A list of numbers: a vector, or, where a column beside it gives the rate, sound."""
    return is_list(type_) and (pa.types.is_floating(type_.value_type) or pa.types.is_integer(type_.value_type))


def _rate(dataset: datasets.Dataset) -> str | None:
    """The column that gives the rate in hertz of samples in another column."""
    schema = dataset.data.schema
    numbers = [
        n for n in dataset.column_names
        if pa.types.is_integer(schema.field(n).type) or pa.types.is_floating(schema.field(n).type)
    ]  # fmt: skip
    return _find(numbers, RATES)


def is_list(type_: pa.DataType) -> bool:
    return pa.types.is_list(type_) or pa.types.is_large_list(type_) or pa.types.is_fixed_size_list(type_)


def describe(dataset: datasets.Dataset) -> str:
    """The columns with their types, for errors: ``question (text), id (number)``."""
    return ", ".join(f"{name} ({column_type(dataset, name)})" for name in dataset.column_names)


# --- columns named by the user ---------------------------------------------------------------------------------

_ALLOWED = {
    "text": {"text", "dna"}, "anchor": {"text", "image"}, "positive": {"text", "image"}, "a": {"text"}, "b": {"text"},
    "positives": {"text", "texts"}, "negatives": {"text", "texts"}, "score": {"number"},
    "label": {"text", "number", "class"}, "image": {"image"},
    "audio": {"audio"}, "rate": {"number"}, "vector": {"vector"}, "bag": {"text", "number", "class"},
    "table": {"text", "number", "class"}, "series": {"number"}, "dna": {"dna", "text"}, "task": {"number"},
    "source": {"text", "number", "class"},
}  # fmt: skip


def _named(dataset: datasets.Dataset, columns: Columns) -> Schema:
    if "series" in columns:
        return _series(dataset, columns)
    given: dict[str, str | list[str]] = {}
    for role, column in columns.items():
        role = "negatives" if NEGATIVE.fullmatch(role) else role
        if role not in _ALLOWED:
            raise DataError(f"A column cannot play the part {role!r}. The parts are: {ROLES}.")
        many = [column] if isinstance(column, str) else list(column)
        if role == "table":
            many = [n for one in many for n in ([one] if one in dataset.column_names else one.split("+"))]
        for name in many:
            _check(dataset, role, name)
        if role in ("negatives", "positives", "table"):
            given[role] = [*given.get(role, []), *many]
        else:
            given[role] = many[0]
    if set(given) == {"source"}:  # the other columns speak for themselves
        found = _decide(dataset.remove_columns(str(given["source"])))
        if found.kind in SOURCED:
            why = f"{found.why.removeprefix(f'{found.kind}: ').rstrip('.')}, from the sources in {given['source']}"
            return _schema(dataset, found.kind, {**found.columns, **given}, why)
    kind = _NEEDS.get(frozenset(given) - {"rate", "source", "positives"})
    if (kind not in SOURCED and "source" in given) or (kind != "pairs" and "positives" in given):
        kind = None
    if kind is None:
        raise DataError(
            f"The parts {', '.join(given)} do not go together. Sets that do: {ROLES}. "
            f"The columns are {describe(dataset)}."
        )
    if twice := set(given.get("table", ())) & {c for c in given.values() if isinstance(c, str)}:
        raise DataError(
            f"Column {min(twice)!r} is named as a part of the table and by itself. Leave it out of the table."
        )
    said = ", ".join(f"{role}={c if isinstance(c, str) else '+'.join(c)}" for role, c in given.items())
    return _schema(dataset, kind, given, f"as named: {said}")


def _series(dataset: datasets.Dataset, columns: Columns) -> Schema:
    """The channels of one series, named ``series=a+b``, and perhaps its ``time``."""
    if others := set(columns) - {"series", "time"}:
        raise DataError(f"The part {min(others)!r} does not go with series; with it goes time: series=a+b,time=c.")
    named = [columns["series"]] if isinstance(columns["series"], str) else list(columns["series"])
    channels = [n for one in named for n in ([one] if one in dataset.column_names else one.split("+"))]
    for name in channels:
        _check(dataset, "series", name)
    time = columns.get("time")
    if time is not None and time not in dataset.column_names:
        raise DataError(f"There is no column {time!r} to be the time; there are {describe(dataset)}.")
    return steps.named(channels, None if time is None else str(time), f"as named: {', '.join(channels)}")


def _check(dataset: datasets.Dataset, role: str, name: str) -> None:
    if name not in dataset.column_names:
        close = difflib.get_close_matches(name, dataset.column_names, n=1)
        meant = f" Did you mean {close[0]!r}? Type: --columns {role}={close[0]}" if close else ""
        raise DataError(f"There is no column {name!r} to be the {role}; there are {describe(dataset)}.{meant}")
    found = column_type(dataset, name)
    if found not in _ALLOWED[role]:
        fitting = [n for n in dataset.column_names if column_type(dataset, n) in _ALLOWED[role]]
        instead = f" Type: --columns {role}={fitting[0]}" if fitting else ""
        if role == "audio" and is_numbers(dataset.data.schema.field(name).type):
            instead = f" Samples need a column of their rate in hertz beside them, called {' or '.join(RATES)}."
        raise DataError(
            f"Column {name!r} holds {found}, but the {role} must be {' or '.join(sorted(_ALLOWED[role]))}. "
            f"The columns are {describe(dataset)}.{instead}"
        )
    if role == "dna":
        for row, value in enumerate(dataset.data.column(name).slice(0, SAMPLE).to_pylist()):
            clean(value or "", where=f"Column {name!r}, row {row},")


# --- columns that decide themselves ----------------------------------------------------------------------------


def _decide(dataset: datasets.Dataset) -> Schema:
    types = {n: column_type(dataset, n) for n in dataset.column_names}
    if series := steps.series_schema(dataset, types, LABELS):
        return series
    told = [n for n in types if not METADATA.fullmatch(n.lower())]
    pictures, sounds, vectors = ([n for n, t in types.items() if t == w] for w in ("image", "audio", "vector"))
    negatives = [n for n in told if types[n] in ("text", "texts") and NEGATIVE.fullmatch(n.lower())]
    texts = [n for n in told if types[n] == "text" and n not in negatives]
    if not (pictures or sounds):  # a lone column "url" is the data itself
        texts = texts or [n for n, t in types.items() if t == "text"]
    anchor, positive = _find(texts, ANCHORS), _find(texts, POSITIVES)
    few = [n for n in texts if n not in ((anchor, positive) if positive else ()) and _few_values(dataset, n)]
    label, label_why = _label(types, told, texts, few)
    free = [n for n in texts if n != label and n not in few] or [n for n in texts if n != label]

    if label and (bag := _find(list(types), BAGS)) and label != bag:
        for role, found in (("image", pictures), ("vector", vectors), ("text", [n for n in free if n != bag])):
            if len(found) == 1:
                why = f"{role}s ({found[0]}) in bags ({bag}), which share a label ({label}{label_why})"
                return _schema(dataset, "bags", {role: found[0], "label": label, "bag": bag}, why)
    for modality, found in (("image", pictures), ("audio", sounds)):
        if len(found) > 1:
            raise _ambiguous(dataset, f"there are {len(found)} {modality} columns", f"{modality}={found[0]}")
    if pictures and sounds:
        what = f"{pictures[0]} holds images and {sounds[0]} recordings"
        raise _ambiguous(dataset, what, f"image={pictures[0]}")
    if pictures:
        return _with_item(dataset, "image", pictures[0], free, label, label_why)
    if sounds:
        said = [n for n in free if n.lower() in TRANSCRIPTS or n not in few]
        if label and not label_why and (spoken := _spoken(types, sounds[0], said, label)):
            return _schema(dataset, "labelled", *spoken)
        return _with_item(dataset, "audio", sounds[0], free, label, label_why)
    columns: dict[str, str | list[str]]
    if sequences := [n for n, t in types.items() if t == "dna"]:
        if len(sequences) > 1:
            raise _ambiguous(dataset, f"there are {len(sequences)} columns of DNA", f"dna={sequences[0]}")
        if label and label_why:  # names of contigs and species repeat too
            label = None
        columns = {"dna": sequences[0], **({"label": label} if label else {})}
        what = f"DNA ({sequences[0]})" + (f" and its label ({label})" if label else " and nothing else to learn from")
        return _schema(dataset, "labelled" if label else "items", columns, what)
    if len(vectors) == 1 and not free:
        columns = {"vector": vectors[0], **({"label": label} if label else {})}
        what = f"vectors ({vectors[0]})" + (f" and their label ({label}{label_why})" if label else " and nothing else")
        return _schema(dataset, "labelled" if label else "items", columns, what)
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
    score = _find(numbers, (*SCORES, "label")) or (numbers[0] if len(numbers) == 1 else None)
    if pair and score and not negatives:
        a, b = pair
        why = f"two texts ({a}, {b}) and a number ({score}) that says how alike they are"
        return _schema(dataset, "scored", {"a": a, "b": b, "score": score}, why)
    if anchor and positive:
        if label and not negatives:
            what = f"{anchor} and {positive} may be alike in every row, or alike or not as {label} says"
            raise _ambiguous(dataset, what, f"anchor={anchor},positive={positive}")
        why = f"{anchor} and {positive} are names of the two sides of a pair"
        return _pairs(dataset, anchor, positive, negatives, why)
    if label and (text := free[0] if len(free) == 1 else _find(free, TEXTS)):
        why = f"a text ({text}) and its label ({label}{label_why})"
        return _schema(dataset, "labelled", {"text": text, "label": label}, why)
    if len(free) == 1 and not negatives:
        why = f"one column of text ({free[0]}) and nothing that goes with it"
        return _schema(dataset, "texts", {"text": free[0]}, why)
    if len(free) == 2:
        why = f"two columns of text ({free[0]}, {free[1]}); their names do not tell, so the first is the anchor"
        return _pairs(dataset, free[0], free[1], negatives, why)
    options = f"text={free[0]}" if len(free) < 2 else f"anchor={free[0]},positive={free[1]}"
    raise _ambiguous(dataset, f"there are {len(free)} columns of text and no names that tell", options)


def _pairs(dataset: datasets.Dataset, anchor: str, positive: str, negatives: list[str], why: str) -> Schema:
    columns: dict[str, str | list[str]] = {"anchor": anchor, "positive": positive}
    if negatives:
        columns["negatives"] = negatives
        why += f", with negatives in {', '.join(negatives)}"
    return _schema(dataset, "pairs", columns, why)


def _spoken(
    types: dict[str, str], audio: str, texts: list[str], label: str
) -> tuple[dict[str, str | list[str]], str] | None:
    """A recording, its label, and what is said in it, or the number of the task that it comes in; None: neither."""
    task = _find([n for n in types if n != label], ("task",))
    texts = [n for n in texts if n != task]
    text = texts[0] if len(texts) == 1 else _find(texts, TRANSCRIPTS)
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
    text = texts[0] if len(texts) == 1 else _find(texts, TRANSCRIPTS)
    if text:
        why = f"{what} and a text ({text}) of one thing"
        if label:
            why += f"; {label} is left aside (to learn from it: --columns {modality}={column},label={label})"
        return _schema(dataset, "towers", {modality: column, "text": text}, why)
    if texts:
        many = f"{what} goes with {len(texts)} columns of text"
        raise _ambiguous(dataset, many, f"{modality}={column},text={texts[0]}")
    if label:
        why = f"{what} and its label ({label}{label_why})"
        return _schema(dataset, "labelled", {modality: column, "label": label}, why)
    return _schema(dataset, "items", {modality: column}, f"{plural} and nothing else")


def _find(columns: list[str], names: tuple[str, ...]) -> str | None:
    """The column with the best-known name (the order of the names counts)."""
    lower = {c.lower(): c for c in reversed(columns)}
    return next((lower[n] for n in names if n in lower), None)


def _label(types: dict[str, str], told: list[str], texts: list[str], few: list[str]) -> tuple[str | None, str]:
    """A column of classes, by its type, by its name, or because a text column holds few values; and why."""
    if by_type := [n for n in told if types[n] == "class"]:
        return _find(by_type, LABELS) or by_type[0], ""
    if named := _find([n for n in told if types[n] in ("number", "text")], LABELS):
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


def _ambiguous(dataset: datasets.Dataset, what: str, type_this: str, *, extra: str = "") -> DataError:
    return DataError(
        f"The columns do not say what to learn: {what}. They are {describe(dataset)}. "
        f"Say it, for example: --columns {type_this}{extra}"
    )


# --- the schema ------------------------------------------------------------------------------------------------


def _schema(dataset: datasets.Dataset, kind: Kind, columns: dict[str, str | list[str]], why: str) -> Schema:
    if "audio" in columns and is_numbers(dataset.data.schema.field(str(columns["audio"])).type):
        columns = {"rate": str(_rate(dataset)), **columns}
    # Beside a recording and its label a text is no item of its own: it tells what is said, as the label does.
    spoken = ("text",) if {"audio", "label"} <= set(columns) else ()
    told = {"score", "label", "bag", "rate", "task", "source", *spoken}
    modalities = {
        role: _modality(dataset, role, c if isinstance(c, str) else c[0])
        for role, c in columns.items()
        if role not in told
    }
    labels = class_names(dataset, str(columns["label"])) if "label" in columns else ()
    sources = class_names(dataset, str(columns["source"]), what="sources") if "source" in columns else ()
    return Schema(
        kind=kind, columns=columns, modalities=modalities, labels=labels, sources=sources, why=f"{kind}: {why}."
    )


def _modality(dataset: datasets.Dataset, role: str, column: str) -> str:
    """What a part holds: parts are named by their modality, or are of either text or images."""
    if role in ("audio", "table", "vector", "dna"):
        return role
    return "image" if column_type(dataset, column) == "image" else "text"


def class_names(dataset: datasets.Dataset, column: str, *, what: str = "classes") -> tuple[str, ...]:
    """Names of classes (or sources) in the order of their numbers: the feature's own, else the sorted values."""
    feature = dataset.features[column]
    if type(feature).__name__ == "ClassLabel":
        return tuple(feature.names)
    values = [v for v in dataset.unique(column) if v is not None]
    if len(values) > 1_000 and len(values) * 2 > len(dataset):
        raise DataError(
            f"Column {column!r} has {len(values):,} different values in {len(dataset):,} rows: these are no {what}. "
            + (
                "Name the column of classes (--columns label=...), or leave it out (--columns text=...)."
                if what == "classes"
                else "Name the column of sources (--columns source=...), or leave it out."
            )
        )
    return tuple(str(v) for v in sorted(values))
