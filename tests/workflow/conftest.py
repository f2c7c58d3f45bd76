"""The command line in this process, for tests of `fit` and of the verbs."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from counterpoint.cli import main


@dataclass(frozen=True)
class Said:
    """An exit code and what was printed; wrapped lines are joined, so that sentences can be looked for."""

    code: int
    out: str
    err: str

    @property
    def all(self) -> str:
        return " ".join((self.out + " " + self.err).split())


Run = Callable[..., Said]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """``run("fit", path, "--out", out)``; a single text is split as a shell would."""

    def call(*words: object) -> Said:
        capsys.readouterr()
        arguments = shlex.split(str(words[0])) if len(words) == 1 else [str(w) for w in words]
        code = main(arguments)
        said = capsys.readouterr()
        return Said(code, said.out, said.err)

    return call
