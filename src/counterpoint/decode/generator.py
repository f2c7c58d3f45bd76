"""Whatever answers prompts: a language model on this machine, or one behind an address. Answers are kept on disk."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from counterpoint.decode.generate import generate
from counterpoint.decode.incremental import TextModel, space
from counterpoint.decode.prefix_contrast import opposed
from counterpoint.decode.sample import greedy
from counterpoint.errors import DataError


@dataclass(frozen=True)
class Prompt:
    """text: to be continued. against: a prompt whose continuation is not wanted (opposed decoding)."""

    text: str
    against: str | None = None


@dataclass(frozen=True)
class Answer:
    """text: what was written, None where nothing came. read, written: tokens. why: where nothing came, the reason."""

    text: str | None
    read: int = 0
    written: int = 0
    why: str = ""


class Generator(Protocol):
    """settings: what an answer depends on besides its prompt, as JSON can hold it."""

    @property
    def settings(self) -> Mapping[str, Any]:
        """What decides what is answered; answers of other settings are no answers of these."""
        ...

    def answers(self, prompts: Sequence[Prompt], *, max_new: int) -> Iterator[tuple[int, Answer]]:
        """Each prompt's number and answer, as they come, every prompt once. max_new: tokens of an answer, at most.

        A prompt that cannot be answered has an answer without text; what would fail every prompt raises.

        prompts: in any number.
        """
        ...


class Local:
    """A language model on this machine, causal or with an encoder and a decoder; its first line is the answer.

    name: of the model, by which answers are remembered. alpha, plausible: of `opposed`, for prompts that have an
    adverse one; alpha 0 leaves that out. batch: prompts at once.

    >>> from counterpoint.encoders.causal import CausalLM
    >>> local = Local(CausalLM.example(), "tiny", batch=2)
    >>> sorted(number for number, answer in local.answers([Prompt("a cat"), Prompt("a dog")], max_new=3))
    [0, 1]
    """

    def __init__(
        self, model: TextModel, name: str, *, alpha: float = 0.0, plausible: float = 0.1, batch: int = 16
    ) -> None:
        self.model, self.name, self.alpha, self.plausible, self.batch = model, name, alpha, plausible, batch

    @property
    def settings(self) -> dict[str, Any]:
        """The model's name, and how it decodes against another prompt."""
        return {"model": self.name, "alpha": self.alpha, "plausible": self.plausible}

    def answers(self, prompts: Sequence[Prompt], *, max_new: int) -> Iterator[tuple[int, Answer]]:
        """As `Generator.answers`: prompts of like length together. prompts: in any number. max_new: tokens of an
        answer, at most."""
        lengths = [len(ids) for ids in self.model.prefix([p.text for p in prompts])]
        against = [len(ids) for ids in self.model.prefix([p.against or "" for p in prompts])]
        rooms = [space(self.model, max(pair)) for pair in zip(lengths, against)]
        fits = [room is None or max_new <= room for room in rooms]
        for i in (i for i, fit in enumerate(fits) if not fit):
            yield i, Answer(None, why=f"The prompt and {max_new} more tokens are longer than the model reads.")
        order = sorted((i for i, fit in enumerate(fits) if fit), key=lengths.__getitem__)
        for start in range(0, len(order), self.batch):
            part = order[start : start + self.batch]
            for i, said in zip(part, self._continued([prompts[i] for i in part], max_new)):
                line = next((line.strip() for line in said.splitlines() if line.strip()), "")
                yield i, Answer(line, lengths[i], len(self.model.ids([said])[0]))

    def _continued(self, prompts: Sequence[Prompt], max_new: int) -> list[str]:
        texts = [p.text for p in prompts]
        against = [p.against for p in prompts if p.against is not None]
        if not self.alpha or len(against) < len(prompts):
            return [found.text for found in generate(self.model, texts, greedy, max_new=max_new, batch=len(texts))]
        wanted, adverse = self.model.prefix(texts), self.model.prefix(against)
        found = opposed(self.model, wanted, adverse, max_new=max_new, alpha=self.alpha, plausible=self.plausible)
        return [self.model.text(new, ids) for new, ids in zip(found, wanted)]


@dataclass
class Cached:
    """A generator whose answers are kept in a file, a line each, so that no prompt is ever asked twice.

    What did not come is not kept: the next run asks for it again. A process may be killed at any time; what is lost is
    what it had not been told yet. The file holds prompts only as their hash, and answers as they are.

    asked, remembered, failed: prompts so far. read, written: tokens of those asked. generator: what is asked. path: of
    the file. failed ones are counted by reason in whys: reason -> how often.

    >>> class Upper:
    ...     settings = {"model": "upper"}
    ...     def answers(self, prompts, *, max_new):
    ...         yield from ((i, Answer(p.text.upper())) for i, p in enumerate(prompts))
    >>> cached = Cached(Upper(), Path("answers.jsonl"))
    >>> cached.answer([Prompt("yes")]), cached.answer([Prompt("yes"), Prompt("no")]), cached.asked, cached.remembered
    (['YES'], ['YES', 'NO'], 2, 1)
    """

    generator: Generator
    path: Path
    asked: int = 0
    remembered: int = 0
    failed: int = 0
    read: int = 0
    written: int = 0
    whys: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._held: dict[str, str] = {}
        if self.path.is_dir():
            raise DataError(f"{self.path} is a folder; answers are kept in a file. Name another one.")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        lines = self.path.read_text(encoding="utf-8").splitlines() if self.path.exists() else []
        for line in lines:
            try:
                found = json.loads(line)
                self._held[found["key"]] = found["text"]
            except (ValueError, KeyError, TypeError):  # a killed process left half a line
                continue

    def answer(self, prompts: Sequence[Prompt], *, max_new: int = 64) -> list[str | None]:
        """The text of each prompt's answer, None where nothing came.

        max_new: tokens of an answer, at most.
        """
        keys = [self._key(prompt, max_new) for prompt in prompts]
        new = {key: prompt for key, prompt in zip(keys, prompts) if key not in self._held}
        self.remembered += len(prompts) - len(new)
        self.asked += len(new)
        if new:
            named = list(new)
            with self.path.open("a", encoding="utf-8") as file:
                file.write("\n" if self._torn() else "")
                for i, answer in self.generator.answers([new[key] for key in named], max_new=max_new):
                    self._take(named[i], answer, file)
        return [self._held.get(key) for key in keys]

    def _take(self, key: str, answer: Answer, file: Any) -> None:
        self.read += answer.read
        self.written += answer.written
        if answer.text is None:
            self.failed += 1
            self.whys[answer.why] = self.whys.get(answer.why, 0) + 1
            return
        self._held[key] = answer.text
        file.write(json.dumps({"key": key, "text": answer.text}) + "\n")
        file.flush()

    def _torn(self) -> bool:
        """Whether the file ends in the middle of a line."""
        if not self.path.stat().st_size:
            return False
        with self.path.open("rb") as file:
            file.seek(-1, 2)
            return file.read() != b"\n"

    def _key(self, prompt: Prompt, max_new: int) -> str:
        said = {"text": prompt.text, "against": prompt.against, "max_new": max_new, **self.generator.settings}
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()
