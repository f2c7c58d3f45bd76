"""Which column plays which part: the shape of the data decides which methods can learn from it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

Kind: TypeAlias = Literal["texts", "pairs", "scored", "labelled", "items", "towers", "graph"]
"""What rows hold.

texts: one text. pairs: anchor, positive, perhaps negatives. scored: a, b, score. labelled: one item and its label.
items: one item of another modality (an image, a recording, a sequence) and nothing else. towers: two modalities of one
thing. graph: the nodes of one graph.
"""

Row: TypeAlias = dict[str, Any]
"""A row after the schema was applied. Keys by kind:

texts: ``text``. pairs: ``anchor``, ``positive``, ``negatives`` (a list, may be empty). scored: ``a``, ``b``, ``score``
(float). labelled: the item under its modality's name (``text``, ``image``), and ``label`` (int). items: the item
under its modality's name. towers: one key per stream, a missing
one being None. graph: ``node`` (a `counterpoint.data.graph.Node`), and ``label`` where it has one. Always ``row``: the
row's number in the data set (int).
"""


@dataclass(frozen=True, kw_only=True)
class Schema:
    """The parts the columns play.

    kind: what the rows hold. columns: row key -> column, or list of columns (negatives). modalities: row key ->
    text, image, ... labels: the names of the classes, in the order of their numbers (labelled only). why: the sentence
    that says what decided.
    """

    kind: Kind
    columns: dict[str, str | list[str]]
    modalities: dict[str, str] = field(default_factory=dict)
    labels: tuple[str, ...] = ()
    why: str = ""
