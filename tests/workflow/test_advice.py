"""With what a text encoder begins, by the number of rows: few, some, many, and a stream of them."""

from __future__ import annotations

import pytest

from counterpoint.encoders.static import StaticTextConfig
from counterpoint.encoders.text import TextTransformerConfig
from counterpoint.workflow.advice import SPELLING, Start, start_for

STATIC = StaticTextConfig()


@pytest.mark.parametrize(
    ("rows", "device", "choice", "epochs", "says"),
    [
        (1_000, "cpu", "auto", None, "1,000 rows are too few for more"),
        (1_000, "cuda", "auto", None, "--lora 16"),
        (100_000, "cpu", "auto", None, "100,000 rows teach it in minutes"),
        (100_000, "cuda", "auto", None, "--encoder transformer"),
        (10_000_000, "cpu", "auto", 1.0, "without an accelerator"),
        (10_000_000, "cuda", "transformer", 1.0, "a transformer from scratch, in one pass"),
        (None, "cuda", "transformer", 1.0, "a stream of rows are enough"),
    ],
)
def test_the_number_of_rows_decides(
    rows: int | None, device: str, choice: str, epochs: float | None, says: str
) -> None:
    found = start_for(rows, STATIC, device=device)
    assert (found.choice, found.train.get("epochs")) == (choice, epochs)
    assert says in found.why
    assert found.of(STATIC).spelling == (SPELLING if choice == "auto" else 0)


def test_what_is_left_as_the_recipe_says_it() -> None:
    own = StaticTextConfig(spelling=0.9)
    assert start_for(1_000, own, device="cpu").of(own) is own
    assert Start().of(STATIC) is STATIC


def test_a_recipe_that_wants_another_encoder_has_said_so() -> None:
    found = start_for(10_000_000, TextTransformerConfig(), device="cuda")
    assert (found.choice, found.why, found.train) == ("auto", "", {})
