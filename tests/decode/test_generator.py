"""Generators: answers kept on disk, and a language model on this machine as one."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import torch

from counterpoint.decode.generator import Answer, Cached, Local, Prompt
from counterpoint.encoders.causal import CausalLM, CausalLMConfig
from counterpoint.errors import DataError
from tests.encoders.samples import TEXTS


class Echo:
    """Answers with the prompt in capitals; 'silent' gets none, 'crash' ends the process."""

    def __init__(self, **settings: object) -> None:
        self.settings = settings
        self.seen: list[str] = []

    def answers(self, prompts: Sequence[Prompt], *, max_new: int) -> Iterator[tuple[int, Answer]]:
        for i, prompt in reversed(list(enumerate(prompts))):  # in no order one may rely on
            self.seen.append(prompt.text)
            if prompt.text == "crash":
                raise KeyboardInterrupt
            text = None if prompt.text == "silent" else prompt.text.upper()
            yield i, Answer(text, 3, 2, why="" if text else "It is silent.")


def test_a_second_run_asks_nothing(tmp_path: Path) -> None:
    first = Cached(Echo(), tmp_path / "deep" / "cache.jsonl")
    prompts = [Prompt("a"), Prompt("b"), Prompt("a")]
    assert first.answer(prompts) == ["A", "B", "A"]
    assert (first.asked, first.remembered, first.read, first.written) == (2, 1, 6, 4)
    echo = Echo()
    again = Cached(echo, first.path)
    assert again.answer(prompts) == ["A", "B", "A"]
    assert echo.seen == []
    assert (again.asked, again.remembered, again.read) == (0, 3, 0)


def test_what_answers_otherwise_is_asked_again(tmp_path: Path) -> None:
    path = tmp_path / "cache.jsonl"
    Cached(Echo(model="x"), path).answer([Prompt("a")])
    for generator, prompt, room in (
        (Echo(model="y"), Prompt("a"), 64),
        (Echo(model="x"), Prompt("a", against="b"), 64),
        (Echo(model="x"), Prompt("a"), 8),
    ):
        Cached(generator, path).answer([prompt], max_new=room)
        assert generator.seen == ["a"]


def test_no_answer_is_counted_and_asked_for_again(tmp_path: Path) -> None:
    cached = Cached(Echo(), tmp_path / "cache.jsonl")
    assert cached.answer([Prompt("silent"), Prompt("a")]) == [None, "A"]
    assert cached.failed == 1
    assert cached.whys == {"It is silent.": 1}
    echo = Echo()
    Cached(echo, cached.path).answer([Prompt("silent"), Prompt("a")])
    assert echo.seen == ["silent"]


def test_a_killed_run_goes_on_from_what_it_had(tmp_path: Path) -> None:
    path = tmp_path / "cache.jsonl"
    with pytest.raises(KeyboardInterrupt):
        Cached(Echo(), path).answer([Prompt("a"), Prompt("crash"), Prompt("c")])
    path.write_bytes(path.read_bytes()[:-1] + b'\n{"key": "half of a li')  # killed while it wrote
    echo = Echo()
    cached = Cached(echo, path)
    assert cached.answer([Prompt("a"), Prompt("c"), Prompt("d")]) == ["A", "C", "D"]
    assert sorted(echo.seen) == ["a", "d"]
    assert Cached(Echo(), path).answer([Prompt("d")]) == ["D"]
    assert sum(line.startswith('{"key"') and line.endswith("}") for line in path.read_text().splitlines()) == 3


def test_the_file_says_no_prompt(tmp_path: Path) -> None:
    cached = Cached(Echo(), tmp_path / "cache.jsonl")
    cached.answer([Prompt("something private")])
    (line,) = cached.path.read_text().splitlines()
    assert set(json.loads(line)) == {"key", "text"}
    assert "something private" not in line
    with pytest.raises(DataError, match="is a folder"):
        Cached(Echo(), tmp_path)


def model() -> CausalLM:
    torch.manual_seed(0)
    config = CausalLMConfig(layers=1, width=16, heads=2, max_length=64, vocabulary=200)
    return CausalLM.from_texts(TEXTS * 3, config).eval()


def test_a_local_model_answers_with_its_first_line_in_any_company(tmp_path: Path) -> None:
    lm = model()
    prompts = [Prompt(t) for t in TEXTS if t]
    together = dict(Local(lm, "tiny", batch=4).answers(prompts, max_new=6))
    assert sorted(together) == list(range(len(prompts)))
    alone = dict(Local(lm, "tiny", batch=1).answers(prompts, max_new=6))
    assert [together[i].text for i in range(len(prompts))] == [alone[i].text for i in range(len(prompts))]
    assert all(a.text is not None and "\n" not in a.text for a in together.values())
    assert together[0].read == len(lm.prefix([prompts[0].text])[0])


def test_a_local_model_decodes_against_the_adverse_prompt() -> None:
    lm = model()
    with torch.no_grad():  # an untrained model writes one thing; make the prompts matter
        for p in lm.parameters():
            p.mul_(4)
    prompts = [Prompt("the cat sat on the", against="voices and more cats"), Prompt("a dog", against="a dog")]
    plain = dict(Local(lm, "tiny").answers(prompts, max_new=6))
    far = dict(Local(lm, "tiny", alpha=1.0, plausible=1e-6).answers(prompts, max_new=6))
    assert far[0].text != plain[0].text
    none = [Prompt(p.text) for p in prompts]
    assert dict(Local(lm, "tiny", alpha=1.0).answers(none, max_new=6)) == plain


def test_a_prompt_that_is_too_long_has_no_answer_and_stops_nobody() -> None:
    prompts = [Prompt("the cat " * 60), Prompt("a dog"), Prompt("a dog", against="the mat " * 60)]
    long, short, other = (dict(Local(model(), "tiny", alpha=1.0).answers(prompts, max_new=6))[i] for i in range(3))
    assert (long.text, other.text) == (None, None)
    assert "6 more tokens are longer" in long.why
    assert short.text is not None
