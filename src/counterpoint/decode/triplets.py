"""Sentences to triplets by a language model: it writes a positive and a negative of each, and scores its own writing.

The first two stages of Wang et al. 2024 (MultiCSR), arXiv 2310.10962. The prompts are ours: two examples each, as
there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from counterpoint.data.curate import Curated, Triplet, curate, parse_score, sound
from counterpoint.decode.generator import Cached, Prompt

BLOCK = 256
"""Sentences that are sent together; what is told comes after each block."""
LONGEST = 2_000
"""Characters of a sentence; a longer one is a document, and is left out."""

ENTAILED = """Read the sentence and write one that must be true if it is true. Use other words.

Sentence: A woman in a red coat is buying apples at a market stall.
Also true: Someone is shopping for fruit.

Sentence: The committee put off its decision until the auditors had reported.
Also true: Nothing was decided before the audit was over.

Sentence: {0}
Also true:"""

CONTRADICTED = """Read the sentence and write one about the same things that cannot be true if it is true.

Sentence: A woman in a red coat is buying apples at a market stall.
Never true: The market is closed and nobody is there.

Sentence: The committee put off its decision until the auditors had reported.
Never true: The committee decided at once, without waiting for anyone.

Sentence: {0}
Never true:"""

SIMILAR = """How alike are two sentences in what they say? Answer with a number from 0.0 (nothing) to 5.0 (the same).

First: Two boys are kicking a ball across a muddy field.
Second: Children play football outdoors.
Number: 4.2

First: The train to the coast leaves at noon.
Second: He forgot to water the plants.
Number: 0.1

First: {0}
Second: {1}
Number:"""


@dataclass
class Refined:
    """What became of the sentences. dropped: of those written, reason -> count. curated: of those scored."""

    sentences: int = 0
    curated: Curated = field(default_factory=Curated)
    dropped: Counter[str] = field(default_factory=Counter)


def refine(
    sentences: Sequence[str],
    generator: Cached,
    *,
    opposed: bool = False,
    keep: float = 3.0,
    drop: float = 3.0,
    max_new: int = 64,
    say: Callable[[str], None] | None = None,
) -> Refined:
    """Write, score and curate a triplet of each sentence; nonsense is dropped and counted.

    opposed: write each side against the instruction of the other (the paper's contrastive generation), which takes a
    generator that knows probabilities. keep, drop: see `curate`. max_new: tokens of a sentence that is written. say:
    told how far it is. sentences: anchors of the triplets. generator: what writes and judges, with its file of answers.
    """
    out = Refined(len(sentences))
    held = list(written(sentences, generator, out.dropped, opposed=opposed, max_new=max_new, say=say))
    out.curated = judged(held, generator, keep=keep, drop=drop, say=say)
    return out


def written(
    sentences: Sequence[str],
    generator: Cached,
    dropped: Counter[str],
    *,
    opposed: bool = False,
    max_new: int = 64,
    say: Callable[[str], None] | None = None,
) -> Iterator[Triplet]:
    """Stage 1: what the generator makes of each sentence. dropped: counts those of which it makes nothing.

    sentences: anchors of the triplets. generator, opposed, max_new, say: as of `refine`.
    """
    fitting = [s for s in dict.fromkeys(" ".join(s.split()) for s in sentences) if 0 < len(s) <= LONGEST]
    if len(fitting) < len(sentences):
        dropped["empty, too long, or there already"] += len(sentences) - len(fitting)
    for start in range(0, len(fitting), BLOCK):
        block = fitting[start : start + BLOCK]
        prompts = []
        for sentence in block:
            sides = [ENTAILED.format(sentence), CONTRADICTED.format(sentence)]
            prompts += [Prompt(one, other if opposed else None) for one, other in (sides, sides[::-1])]
        answers = generator.answer(prompts, max_new=max_new)
        for sentence, positive, negative in zip(block, answers[::2], answers[1::2]):
            if positive is None or negative is None:
                dropped["no answer"] += 1
                continue
            triplet = Triplet(sentence, _line(positive), _line(negative))
            if why := sound(triplet):
                dropped[why] += 1
            else:
                yield triplet
        if say:
            say(f"{start + len(block):,} of {len(fitting):,} sentences written to.")


def judged(
    triplets: Sequence[Triplet],
    generator: Cached,
    *,
    keep: float = 3.0,
    drop: float = 3.0,
    say: Callable[[str], None] | None = None,
) -> Curated:
    """Stage 2: the triplets that the generator itself finds right, by the numbers it gives their two pairs.

    triplets: as they were written. generator, say: as of `refine`. keep, drop: as of `curate`.
    """
    scores: list[tuple[float | None, float | None]] = []
    for start in range(0, len(triplets), BLOCK):
        block = triplets[start : start + BLOCK]
        prompts = [Prompt(SIMILAR.format(t.anchor, other)) for t in block for other in (t.positive, t.negative)]
        numbers = [parse_score(answer) for answer in generator.answer(prompts, max_new=8)]
        scores += zip(numbers[::2], numbers[1::2])
        if say:
            say(f"{start + len(block):,} of {len(triplets):,} triplets scored.")
    return curate(triplets, scores, keep=keep, drop=drop)


def _line(text: str) -> str:
    """The first line of an answer that says something, without quotes around it."""
    line = next((line for line in text.splitlines() if line.strip()), "")
    return " ".join(line.split()).strip('"').strip()
