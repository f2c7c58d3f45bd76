"""Columns that are known by their names and play no part: each is named, with why and what to type."""

from __future__ import annotations

from typing import TYPE_CHECKING

from counterpoint.data.column_types import NUMBER, column_type
from counterpoint.data.files import linked
from counterpoint.data.layouts import leaves
from counterpoint.data.roles import ANCHORS, LABELS, NEGATIVE, ORIGINS, POSITIVES, SCORES, Columns

if TYPE_CHECKING:
    import datasets

    from counterpoint.data.schema import Schema

TEACHER = ("pos_scores", "neg_scores", "positive_score", "negative_scores")
BESIDE = ("prompt", "prompts", "instruction", "weight", "weights")
"""Names of columns that other libraries learn with."""
_VAGUE = ("a", "b", "left", "right", "target", "document", "content", *ORIGINS)
"""Names that are known where two of them stand together, and by themselves say little."""


def unused(dataset: datasets.Dataset, schema: Schema, given: Columns) -> tuple[str, ...]:
    """A sentence for each column of a known name that the schema leaves aside. given: the parts that the user named,
    who then knows which sides and labels are left.

    dataset: of `datasets`. schema: of its rows.
    """
    used = {n for c in schema.columns.values() for n in ([c] if isinstance(c, str) else c)}
    out = []
    for name in dataset.column_names:
        if name in used:
            continue
        what = _known_as(name.lower())
        nested = [] if what or given else leaves(name, dataset.data.column(name))
        if nested:
            out.append(
                f"Column {name!r} is not used: it holds other columns, whose texts are named by a path: --columns "
                f"PART={nested[0]}"
            )
        if what and not (given and what in ("side", "label")):
            holds = column_type(dataset, name)
            out.append(f"Column {name!r} ({holds}) is not used: {_why(name, what, holds, schema)}")
    return tuple(out)


def _known_as(name: str) -> str | None:
    if name in (*TEACHER, *BESIDE):
        return "teacher" if name in TEACHER else "beside"
    if name in SCORES:
        return "score"
    if name in LABELS:
        return "label"
    if NEGATIVE.fullmatch(name):
        return "negatives"
    if linked.means_files(name):
        return "item"
    return "side" if name in (*ANCHORS, *POSITIVES) and name not in _VAGUE else None


def _why(name: str, what: str, holds: str, schema: Schema) -> str:
    one = {part: c for part, c in schema.columns.items() if isinstance(c, str)}
    sides = [one[p] for p in ("anchor", "positive") if p in one] or [one[p] for p in ("a", "b") if p in one]
    if holds == "null":
        return "it holds nothing."
    if what == "teacher":
        return "pairs are learned from without the scores of another model."
    if what == "beside":
        return "texts are learned from as they are, and rows count alike."
    if what == "score" and len(sides) == 2 and holds == NUMBER:
        return f"the pairs are learned from alike. To learn its scores, type: {_scored(sides, name)}"
    if what == "score":
        return "scores are of two texts. To learn from them, type: --columns a=COLUMN,b=COLUMN,score=" + name
    if what == "negatives" and len(sides) == 2:
        return f"to learn from it, type: --columns anchor={sides[0]},positive={sides[1]},negatives={name}"
    if what == "negatives":
        return f"negatives are of pairs. To learn from them: --columns anchor=COLUMN,positive=COLUMN,negatives={name}"
    item = next((p for p in schema.modalities if p in one and p not in ("anchor", "positive", "a", "b")), None)
    if what == "label" and item:
        return f"to learn from it, type: --columns {item}={one[item]},label={name}"
    if what == "label" and len(sides) == 2:
        return f"the pairs are learned from alike. Where it says how alike they are, type: {_scored(sides, name)}"
    if what == "item":
        return f"it holds no files (bytes, or paths below the folder of the table), but {holds}."
    return "its other side is not known. To learn from both, name them: --columns anchor=COLUMN,positive=COLUMN"


def _scored(sides: list[str], name: str) -> str:
    return f"--columns a={sides[0]},b={sides[1]},score={name}"
