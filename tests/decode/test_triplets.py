"""Refinement of what a language model once answered, kept beside this file: what is written, dropped and turned."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from counterpoint.data.curate import Triplet
from counterpoint.decode import triplets
from counterpoint.decode.generator import Answer, Cached, Prompt
from counterpoint.decode.triplets import judged, refine
from counterpoint.errors import DataError

RECORDED = json.loads((Path(__file__).parent / "recorded.json").read_text(encoding="utf-8"))
SENTENCES = [r["sentence"] for r in RECORDED]


class Recorded:
    """Answers as recorded. It finds the sentence, and what is asked of it, in the last lines of a prompt."""

    def __init__(self) -> None:
        self.settings: dict[str, Any] = {"model": "recorded"}
        self.prompts: list[Prompt] = []

    def answers(self, prompts: Sequence[Prompt], *, max_new: int) -> Iterator[tuple[int, Answer]]:
        for i, prompt in enumerate(prompts):
            self.prompts.append(prompt)
            text = self.one(prompt.text.rpartition("\n\n")[2])
            yield i, Answer(text, 10, 5, why="" if text is not None else "Nothing came.")

    def one(self, question: str) -> str | None:
        lines = question.splitlines()
        (found,) = [r for r in RECORDED if r["sentence"] == lines[0].partition(": ")[2]]
        if lines[-1] == "Number:":
            other = lines[1].partition(": ")[2]
            return found["scores"][not (found["entailed"] or "").startswith(other)]
        return found["entailed" if lines[-1] == "Also true:" else "contradicted"]


@pytest.fixture
def cached(tmp_path: Path) -> Cached:
    return Cached(Recorded(), tmp_path / "answers.jsonl")


def test_what_becomes_of_ten_sentences(cached: Cached) -> None:
    found = refine(SENTENCES, cached)
    assert found.curated.kept == [
        Triplet(SENTENCES[0], "Animals are moving by the sea.", "The dogs sleep in a kennel."),
        Triplet(SENTENCES[1], "Someone performs music for an audience.", "Nobody is making music."),  # turned round
        Triplet(
            SENTENCES[2],
            "One cannot visit the museum on the first day of the week.",  # the first line alone
            "The museum opens every single day.",  # without quotes
        ),
    ]
    assert found.curated.swapped == 1
    assert found.dropped == {"a copy of the sentence": 1, "an empty text": 1, "no answer": 1}
    assert found.curated.dropped == {
        "no score": 1,
        "both scores are the same": 1,
        "the negative is above 3": 1,
        "the positive is below 3": 1,
    }
    assert found.sentences == 10
    assert cached.failed == 1


def test_a_second_run_asks_only_for_what_had_not_come(cached: Cached) -> None:
    first = refine(SENTENCES, cached)
    again = Cached(Recorded(), cached.path)
    assert refine(SENTENCES, again).curated.kept == first.curated.kept
    assert (again.asked, again.failed) == (1, 1)


def test_blocks_change_nothing(cached: Cached, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    whole = refine(SENTENCES, cached)
    monkeypatch.setattr(triplets, "BLOCK", 3)
    told: list[str] = []
    parts = refine(SENTENCES, Cached(Recorded(), tmp_path / "other.jsonl"), say=told.append)
    assert parts == whole
    assert told[:4] == [f"{n} of 10 sentences written to." for n in (3, 6, 9, 10)]


def test_each_side_is_written_against_the_other(cached: Cached) -> None:
    refine(SENTENCES[:1], cached, opposed=True)
    one, two, *scores = cached.generator.prompts  # type: ignore[attr-defined]
    assert (one.text, one.against) == (two.against, two.text)
    assert all(p.against is None for p in scores)
    assert one.text.endswith(f"Sentence: {SENTENCES[0]}\nAlso true:")
    assert two.text.endswith(f"Sentence: {SENTENCES[0]}\nNever true:")


def test_sentences_that_cannot_be_asked_of(cached: Cached) -> None:
    odd = ["", " \n", "x" * 100_000, f"  {SENTENCES[0]} \n", SENTENCES[0], SENTENCES[2]]
    found = refine(odd, cached)
    assert [t.anchor for t in found.curated.kept] == [SENTENCES[0], SENTENCES[2]]
    assert found.dropped == {"empty, too long, or there already": 4}


def test_triplets_that_are_there_are_scored_alone(cached: Cached) -> None:
    held = [Triplet(r["sentence"], r["entailed"], r["contradicted"]) for r in (RECORDED[0], RECORDED[9])]
    assert judged(held, cached).kept == held[:1]
    assert cached.asked == 4
    with pytest.raises(DataError, match=r"None of 1 triplets.*0.5: 1, 2.0: 1"):
        judged(held[1:], cached)


def test_signs_that_formats_know_are_words_here(cached: Cached) -> None:
    """A sentence with braces and percents reaches the prompt as it is."""
    odd = "{0} costs 5% {of} it \u202e\U0001f600"
    assert triplets.ENTAILED.format(odd).endswith(f"Sentence: {odd}\nAlso true:")
    assert cached.asked == 0
