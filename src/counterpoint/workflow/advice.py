"""With what a text encoder begins where nobody says it, and for how many rows: the choice and its sentence."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from counterpoint.encoders.static import StaticTextConfig

FEW, MANY = 5_000, 1_000_000
"""Rows below which words are too seldom to be learned from them alone, and from which a transformer can be."""

SPELLING = 0.5
"""Of a static encoder from scratch: it never did worse than beginning at random, on technical texts it does better
(bench/spelling.py)."""


@dataclass(frozen=True)
class Start:
    """choice: ``auto`` (the recipe's encoder) or ``transformer``. why: the sentence. spelling: of the recipe's encoder.
    train: settings that follow."""

    choice: str = "auto"
    why: str = ""
    spelling: float = 0.0
    train: dict[str, Any] = field(default_factory=dict)

    def of(self, recipe: Any) -> Any:
        """The recipe's encoder, begun so. What a recipe says of spelling itself stands."""
        if self.spelling and isinstance(recipe, StaticTextConfig) and not recipe.spelling:
            return replace(recipe, spelling=self.spelling)
        return recipe


def start_for(rows: int | None, recipe: Any, *, device: str) -> Start:
    """The start for so many rows of text (None: a stream, of which nobody knows) of a recipe whose encoder is static.

    Few: static, and the advice to go on from a model that has read more. Some: static. Many: one pass, with a
    transformer where there is an accelerator that can train one. An empty sentence where the recipe's encoder is no
    static one: then the method has said what it wants.
    """
    if not isinstance(recipe, StaticTextConfig):
        return Start()
    if rows is not None and rows < FEW:
        return Start(
            spelling=SPELLING,
            why=f"Encoder: static, from scratch, since {rows:,} rows are too few for more. What they do not mention it "
            "cannot know: a pretrained model would (--encoder FOLDER or a hub id, with --lora 16 to keep what it has).",
        )
    number = "a stream of" if rows is None else f"{rows:,}"
    if rows is not None and rows < MANY:
        return Start(
            spelling=SPELLING,
            why=f"Encoder: static, from scratch: {number} rows teach it in minutes. For more quality at far more time: "
            "--encoder transformer, or --encoder FOLDER (a hub id) to go on from a pretrained one.",
        )
    if device == "cpu":
        return Start(
            spelling=SPELLING,
            why=f"Encoder: static, from scratch, in one pass: {number} rows are enough for a transformer, but without "
            "an accelerator one would take days. On a machine with one: --encoder transformer.",
            train={"epochs": 1.0},
        )
    return Start(
        "transformer",
        f"Encoder: a transformer from scratch, in one pass: {number} rows are enough for one, and {device} can train "
        "it. For a static one, in minutes: --encoder static; to go on from a pretrained one: --encoder FOLDER.",
        train={"epochs": 1.0},
    )
