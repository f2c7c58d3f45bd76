"""Tables changed so that their columns hold what their parts need: one function per change, each saying what it did.

A change is a tuple: the name of its function here, and the columns (and words) that the function takes. A schema lists
the changes that its rows need, so that test rows are changed as training rows were. Where a table lacks the column of a
change, or it is of the right type already, the table stays as it is.
"""

from __future__ import annotations

import itertools
import math
import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from counterpoint.data.classes import is_class
from counterpoint.data.files import media
from counterpoint.data.files.plain import Plain, is_plain, is_stream
from counterpoint.data.log import Log
from counterpoint.modalities.text import TEXT

Change: TypeAlias = tuple[str, ...]

ANCHOR, POSITIVE, NEGATIVES = "anchor", "positive", "negatives"
"""Columns that changes make."""
ASKS, ANSWERS = ("user", "human", "prompter"), ("assistant", "gpt", "model", "bot", "chatgpt")
"""Who speaks in a turn of a conversation."""
PASSAGE = (TEXT, "contents", "content", "passage", "body")
"""Under these names a passage holds its text."""
YES = ("yes", "true", "1", "duplicate", "paraphrase", "similar", "same", "match", "equivalent", "relevant", "related")
NO = ("no", "false", "0", "different", "dissimilar", "irrelevant", "unrelated", "other")
_NOT = re.compile(r"^(non|not?|in|un|dis|ir)[ _-]?")


def arranged(dataset: Any, changes: Sequence[Change], log: Log) -> Any:
    """A data set, or a stream, with the changes made; what was left out and decided goes to the log.

    dataset: of `datasets`. changes: in their order. log: of the rows.
    """

    if not changes:
        return dataset
    if is_stream(dataset):
        return _stream(media.encoded(dataset), changes, log)
    table = dataset.data.table if dataset._indices is None else dataset.with_format("arrow")[:]
    table = changed(table, changes, log)
    return Plain(table) if isinstance(dataset, Plain) and is_plain(table.schema) else _dataset(table, dataset.features)


def changed(table: pa.Table, changes: Sequence[Change], log: Log) -> pa.Table:
    """A table with the changes made.

    table: of one piece. changes: in their order. log: of the rows.
    """
    for name, *rest in changes:
        table = CHANGES[name](table, log, *rest)
    return table


def _dataset(table: pa.Table, features: Any) -> Any:
    import datasets  # here: importing it takes long

    kept = {
        n: f for n, f in features.items() if n in table.column_names and f.__class__.__name__ in ("ClassLabel", "Audio")
    }
    kept = {n: f for n, f in kept.items() if _same(table.schema.field(n).type, f)}
    found = media.features(table, **kept)
    return datasets.Dataset(table.cast(found.arrow_schema))


def _same(type_: pa.DataType, feature: Any) -> bool:
    return bool(pa.types.is_integer(type_) if feature.__class__.__name__ == "ClassLabel" else type_ == media.ARROW)


def _stream(stream: Any, changes: Sequence[Change], log: Log) -> Any:
    """Block by block: what a change brings together must stand near each other."""
    schema = stream.features.arrow_schema
    features = _dataset(changed(schema.empty_table(), changes, Log()), stream.features).features

    def block(rows: dict[str, list[Any]]) -> dict[str, list[Any]]:
        return changed(pa.table(rows, schema=schema), changes, log).to_pydict()  # type: ignore[no-any-return]

    return stream.map(block, batched=True, remove_columns=list(stream.features), features=features)


# --- cells -----------------------------------------------------------------------------------------------------


def numbers(table: pa.Table, log: Log, name: str) -> pa.Table:
    """Texts that are numbers as numbers; the others become null, and are counted.

    table: of one piece. log: of the rows. name: of the column.
    """
    if name not in table.column_names or not is_text(table.column(name).type):
        return table
    texts = table.column(name).to_pylist()
    found = [as_number(t) for t in texts]
    wrong = [i for i, (t, v) in enumerate(zip(texts, found)) if v is None and t is not None and is_class(t)]
    log.note(f"Column {name!r} holds texts that are numbers: they are read as numbers.")
    if wrong:
        log.note(f"{len(wrong):,} texts in column {name!r} are no numbers (row {wrong[0]}: {texts[wrong[0]]!r}).")
    return _set(table, name, pa.array(found, pa.float64()))


def as_number(text: str | None) -> float | None:
    """A text as a number, with a point or a comma before its decimals; None where it is none."""
    for form in (text or "", (text or "").replace(",", ".") if (text or "").count(",") == 1 else ""):
        try:
            value = float(form)
        except ValueError:
            continue
        return value if math.isfinite(value) else None
    return None


def texts(table: pa.Table, log: Log, name: str) -> pa.Table:
    """Numbers as texts, as they are written.

    table: of one piece. log: of the rows. name: of the column.
    """
    if name not in table.column_names or is_text(table.column(name).type):
        return table
    log.note(f"Column {name!r} holds numbers: they are read as texts.")
    cells = [None if v is None else str(int(v) if float(v).is_integer() else v) for v in table.column(name).to_pylist()]
    return _set(table, name, pa.array(cells, pa.string()))


def one(table: pa.Table, log: Log, name: str) -> pa.Table:
    """Lists of one value as that value.

    table: of one piece. log: of the rows. name: of the column.
    """
    if name not in table.column_names or not _is_list(table.column(name).type):
        return table
    log.note(f"Column {name!r} holds lists of one value: the values are read.")
    cells = [v[0] if v else None for v in table.column(name).to_pylist()]
    return _set(table, name, pa.array(cells, table.column(name).type.value_type))


def judged(table: pa.Table, log: Log, name: str, *names: str) -> pa.Table:
    """Words that say whether two texts are alike as 1 and 0. names: of the classes where the column holds numbers.

    table: of one piece. log: of the rows. name: of the column.
    """
    if name not in table.column_names:
        return table
    if not names and not is_text(table.column(name).type):
        return table
    cells = table.column(name).to_pylist()
    if names:
        cells = [names[v] if v is not None and 0 <= v < len(names) else None for v in cells]
    found = [None if v is None else says(v) for v in cells]
    yes, no = (next((w for w, v in zip(cells, found) if v == one), "") for one in (1.0, 0.0))
    log.note(f"Column {name!r} judges pairs in words: {yes!r} is read as 1, {no!r} as 0.")
    return _set(table, name, pa.array(found, pa.float64()))


def says(word: str) -> float | None:
    """1 where a word says that two texts are alike, 0 where it says that they are not, None where it says neither."""
    word = str(word).strip().lower().replace(" ", "_")
    if word in YES:
        return 1.0
    return 0.0 if word in NO or _NOT.sub("", word, count=1) in YES else None


def path(table: pa.Table, log: Log, name: str) -> pa.Table:
    """A column of what stands at a path within the cells of another, ``messages.0.content``.

    table: of one piece. log: of the rows. name: the path.
    """
    if name in table.column_names:
        return table
    found = split_path(name, table.column_names)
    if found is None:
        return table
    column, steps = found
    cells = [at_path(cell, steps) for cell in table.column(column).to_pylist()]
    kinds = {type(c) for c in cells if c is not None}
    if len(kinds) > 1:
        cells = [None if c is None else str(c) for c in cells]
    return table.append_column(name, pa.array(cells) if kinds else pa.nulls(len(cells), pa.string()))


def split_path(name: str, columns: Sequence[str]) -> tuple[str, list[str]] | None:
    """The column in which a path begins, and its steps; None where no column does.

    name: as it is typed. columns: those there are.
    """
    known = [c for c in columns if name.startswith(f"{c}.")]
    column = max(known, key=len, default=None)
    return None if column is None else (column, name[len(column) + 1 :].split("."))


def at_path(cell: Any, steps: Sequence[str]) -> Any:
    """What stands at a path within a cell; None where nothing does.

    cell: of the column. steps: keys, or places in lists.
    """
    for step in steps:
        if isinstance(cell, dict):
            cell = cell.get(step)
        elif isinstance(cell, list) and re.fullmatch(r"-?\d+", step) and -len(cell) <= int(step) < len(cell):
            cell = cell[int(step)]
        else:
            return None
    return cell


# --- rows ------------------------------------------------------------------------------------------------------


def each(table: pa.Table, log: Log, name: str) -> pa.Table:
    """A row for each text of a list.

    table: of one piece. log: of the rows. name: of the column.
    """
    if name not in table.column_names or not _is_list(table.column(name).type):
        return table
    column = table.column(name).combine_chunks()
    owners = pc.list_parent_indices(column)
    if empty := len(table) - pc.count_distinct(owners).as_py():
        log.note(f"{empty:,} rows have an empty list in column {name!r}; they are left out.")
    if len(owners) != len(table) - empty:
        log.note(f"Column {name!r} holds lists: {len(table):,} rows give {len(owners):,}, one for each text in them.")
    return _set(table.take(owners), name, pc.list_flatten(column))


def passages(table: pa.Table, log: Log, name: str) -> pa.Table:
    """Lists of passages, each with its text and perhaps a title, as lists of texts: the title stands before the text.

    table: of one piece. log: of the rows. name: of the column.
    """
    if name not in table.column_names or _holds_texts(table.column(name).type):
        return table
    texts = [None if cell is None else [_passage(one) for one in cell] for cell in table.column(name).to_pylist()]
    found = [None if cell is None else [text for text in cell if text] for cell in texts]
    log.note(f"Column {name!r} holds passages: their titles and texts are read.")
    return _set(table, name, pa.array(found, pa.list_(pa.string())))


def _holds_texts(type_: pa.DataType) -> bool:
    one = type_.value_type if _is_list(type_) else type_
    return bool(pa.types.is_string(one) or pa.types.is_large_string(one))


def _passage(held: Any) -> str:
    """The title and the text of a passage."""
    held = held if isinstance(held, dict) else {}
    text = next((held[key] for key in PASSAGE if isinstance(held.get(key), str)), "")
    title = held.get("title")
    return f"{title} {text}".strip() if isinstance(title, str) and text else text


def neighbours(table: pa.Table, log: Log, name: str) -> pa.Table:
    """Texts that follow each other in a list as pairs.

    table: of one piece. log: of the rows. name: of the column.
    """
    if name not in table.column_names or not _is_list(table.column(name).type):
        return table
    pairs = [
        (row, a, b)
        for row, cell in enumerate(table.column(name).to_pylist())
        for a, b in itertools.pairwise(cell or [])
    ]
    log.note(
        f"Each text of a list in column {name!r} and the next one make a pair: {len(table):,} rows give {len(pairs):,}."
    )
    return _pairs(table, pairs, name)


def turns(table: pa.Table, log: Log, name: str) -> pa.Table:
    """What somebody asks in a conversation and what is answered as pairs.

    table: of one piece. log: of the rows. name: of the column.
    """
    if name not in table.column_names or not _is_list(table.column(name).type):
        return table
    pairs = []
    for row, cell in enumerate(table.column(name).to_pylist()):
        spoken = [spoken_by(turn) for turn in cell or []]
        pairs += [(row, a[1], b[1]) for a, b in itertools.pairwise(spoken) if a[0] in ASKS and b[0] in ANSWERS]
    log.note(
        f"Column {name!r} holds conversations: what a user says is an anchor, what is answered its positive. "
        f"{len(table):,} rows give {len(pairs):,} pairs."
    )
    return _pairs(table, pairs, name)


def spoken_by(turn: Any) -> tuple[str, str | None]:
    """(who speaks, what) of a turn of a conversation."""
    turn = turn if isinstance(turn, dict) else {}
    who = turn.get("role", turn.get("from")) or ""
    said = turn.get("content", turn.get("value"))
    return str(who).lower(), said if isinstance(said, str) else None


def entailment(table: pa.Table, log: Log, premise: str, hypothesis: str, label: str, *codes: str) -> pa.Table:
    """Judged pairs of a premise and a hypothesis: what follows is a positive, what contradicts the same premise its
    hard negative. codes: what numbers mean, where the label is one.

    table: of one piece. log: of the rows. premise, hypothesis, label: names of the columns.
    """
    if not {premise, hypothesis, label} <= set(table.column_names):
        return table
    meant = [meaning(v, codes) for v in table.column(label).to_pylist()]
    before, after = table.column(premise).to_pylist(), table.column(hypothesis).to_pylist()
    against: dict[str, list[str]] = defaultdict(list)
    for p, h, what in zip(before, after, meant):
        if what == "contradiction" and p and h and h not in against[p]:
            against[p].append(h)
    kept = [i for i, what in enumerate(meant) if what == "entailment"]
    used = {before[i] for i in kept}
    counts = {w: sum(m == w for m in meant) for w in ("entailment", "neutral", "contradiction", "")}
    idle = sum(len(hs) for p, hs in against.items() if p not in used)
    log.note(
        f"Column {label!r} says what follows{_spelt(codes)}: {counts['entailment']:,} rows of entailment are pairs, "
        f"{counts['contradiction'] - idle:,} of contradiction are hard negatives of the same premise; left out are "
        f"{counts['neutral']:,} neutral rows, {idle:,} contradictions of a premise that nothing follows from, and "
        f"{counts['']:,} without a label."
    )
    found = table.take(pa.array(kept, pa.int64())).drop_columns([label])
    negatives = [against.get(before[i], []) for i in kept]
    if NEGATIVES in found.column_names or not any(negatives):
        return found
    return found.append_column(NEGATIVES, pa.array(negatives, pa.list_(pa.string())))


MEANINGS = {
    "entailment": ("entailment", "entails", "entail", "entailed", "e"),
    "neutral": ("neutral", "n", "not_entailment", "non-entailment", "not_entailed"),
    "contradiction": ("contradiction", "contradicts", "contradictory", "c"),
    "": ("-", "-1", ""),
}
"""What a label says of a premise and a hypothesis, and how it is written; '': nothing."""


def meaning(value: Any, codes: Sequence[str]) -> str | None:
    """Which of `MEANINGS` a label has; None where it has none of them.

    value: of a cell. codes: what numbers mean, in their order.
    """
    if codes and not isinstance(value, str) and value is not None and value == value:
        return codes[int(value)] if 0 <= value < len(codes) else "" if value < 0 else None
    word = str(value).strip().lower() if is_class(value) else ""
    return next((what for what, words in MEANINGS.items() if word in words), None)


def _spelt(codes: Sequence[str]) -> str:
    return f" ({', '.join(f'{i}: {word}' for i, word in enumerate(codes))})" if codes else ""


# --- helpers ---------------------------------------------------------------------------------------------------


def is_text(type_: pa.DataType) -> bool:
    """Whether a column of this type_ holds texts."""
    return bool(pa.types.is_string(type_) or pa.types.is_large_string(type_))


def _is_list(type_: pa.DataType) -> bool:
    return bool(pa.types.is_list(type_) or pa.types.is_large_list(type_) or pa.types.is_fixed_size_list(type_))


def _set(table: pa.Table, name: str, column: Any) -> pa.Table:
    return table.set_column(table.column_names.index(name), name, column)


def _pairs(table: pa.Table, pairs: Sequence[tuple[int, Any, Any]], name: str) -> pa.Table:
    """The rows that pairs come from, with the pairs in place of a column."""
    owners = pa.array([row for row, _, _ in pairs], pa.int64())
    found = {n: table.column(n).take(owners) for n in table.column_names if n != name}
    found |= {n: pa.array([pair[i] for pair in pairs], pa.string()) for i, n in ((1, ANCHOR), (2, POSITIVE))}
    return pa.table(found)


CHANGES: dict[str, Callable[..., pa.Table]] = {
    f.__name__: f for f in (numbers, texts, one, judged, path, passages, each, neighbours, turns, entailment)
}
