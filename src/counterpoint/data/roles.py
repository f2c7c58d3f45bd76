"""The names by which columns are known, and the parts of a schema that they play."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TypeAlias

Columns: TypeAlias = Mapping[str, str | list[str]]

ANCHORS = (
    "anchor", "query", "question", "sentence1", "sentence_1", "sentence_a", "text1", "text_1", "text_a", "question1",
    "question_1", "premise", "a", "left", "source", "prompt", "instruction",
)  # fmt: skip
POSITIVES = (
    "positive", "pos", "positive_passages", "positive_ctxs", "positive_contexts", "answer", "document", "passage",
    "context", "response", "sentence2", "sentence_2", "sentence_b", "text2", "text_2", "text_b", "question2",
    "question_2", "hypothesis", "b", "right", "target", "chosen", "completion", "output", "answers",
)  # fmt: skip
NEGATIVE = re.compile(r"(hard_?)?neg(ative)?s?(_?\d+|_passages|_ctxs|_contexts)?|rejected")
SCORES = ("score", "similarity", "similarity_score", "relatedness", "relatedness_score", "rating")
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

SAMPLE = 5_000  # rows looked at where values decide, and of a stream


def find_name(columns: list[str], names: tuple[str, ...]) -> str | None:
    """The column with the best-known name (the order of the names counts).

    columns: their names. names: that are known, the best first.
    """
    lower = {c.lower(): c for c in reversed(columns)}
    return next((lower[n] for n in names if n in lower), None)
