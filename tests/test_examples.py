"""Every example of a docstring runs; what a user meets has one, and names every parameter."""

from __future__ import annotations

import ast
import doctest
import importlib
import inspect
import itertools
import pkgutil
import re
import textwrap
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import counterpoint
from counterpoint import encoders, evaluate, memory, objectives, search
from counterpoint.data.sampler import Sampler
from counterpoint.memory.base import Memory
from counterpoint.methods.base import discover
from counterpoint.objectives.base import is_objective
from counterpoint.train.config import TrainConfig
from tests.conformance.discovery import subclasses

ABOVE = ("counterpoint.cli", "counterpoint.docs", "counterpoint.proofs", "counterpoint.demo", "counterpoint.__main__")
"""What is no library: the command line, experiments."""
PARTS = 6
"""The modules are run in so many tests, none of which takes long."""
NAMES = sorted(
    info.name
    for info in pkgutil.walk_packages(counterpoint.__path__, "counterpoint.")
    if not info.name.startswith(ABOVE) and not info.name.endswith(("triton_kernels", "triton"))
)

METRICS = {
    "clustering": ("kmeans", "nmi", "ari", "accuracy"),
    "intervals": ("mean", "interval", "difference", "score_interval"),
    "pair_classification": ("average_precision", "best_f1", "best_accuracy"),
    "retrieval": ("dcg", "ndcg", "reciprocal_rank", "recall", "average_precision", "Judgements"),
    "similarity": ("cosines", "pearson", "spearman"),
}


def met() -> Iterator[tuple[str, Any]]:
    """Name -> what a user of the library reaches for: objectives, memories, samplers, metrics, search."""
    for info in pkgutil.walk_packages(objectives.__path__, "counterpoint.objectives."):
        for name, value in vars(importlib.import_module(info.name)).items():
            if is_objective(value) and value.__module__ == info.name:
                yield name, value
    yield from subclasses(memory, Memory).items()
    for name, value in vars(importlib.import_module("counterpoint.data.sampler")).items():
        if isinstance(value, type) and issubclass(value, Sampler) and not inspect.isabstract(value):
            yield name, value
    for module, names in METRICS.items():
        for name in names:
            yield f"{module}.{name}", getattr(importlib.import_module(f"{evaluate.__name__}.{module}"), name)
    for name in search.__all__:
        yield f"search.{name}", getattr(search, name)


MET = dict(met())
WITHOUT = {"search.Hit"}
"""Those that have none: a hit is made by a search, whose example shows one."""


@pytest.mark.parametrize("name", MET)
def test_what_a_user_meets_has_an_example(name: str) -> None:
    assert (">>>" in (MET[name].__doc__ or "")) != (name in WITHOUT)


@pytest.mark.parametrize("part", range(PARTS))
def test_every_example_runs(part: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each in a folder of its own."""
    finder, runner = doctest.DocTestFinder(exclude_empty=True), doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    failed = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in NAMES[part::PARTS]:
            for number, example in enumerate(finder.find(importlib.import_module(name))):
                if example.examples:
                    (tmp_path / name / str(number)).mkdir(parents=True)
                    monkeypatch.chdir(tmp_path / name / str(number))
                    failed += [example.name] if runner.run(example).failed else []
    assert not failed
    assert runner.tries > 20


# --- parameters -------------------------------------------------------------------------------------------------


def configured() -> Iterator[tuple[str, Any]]:
    """The settings of every method and of every encoder, and those of a training run."""
    for name, method in discover().items():
        yield f"{name}.Config", method.Config
    for info in pkgutil.iter_modules(encoders.__path__, "counterpoint.encoders."):
        for name, value in vars(importlib.import_module(info.name)).items():
            if isinstance(value, type) and name.endswith("Config") and value.__module__ == info.name:
                yield name, value
    yield "TrainConfig", TrainConfig


def said_of(value: Any) -> set[str]:
    """The words of a docstring; of a class also those of its bases, and the fields with a sentence of their own."""
    found: set[str] = set()
    for one in value.__mro__[:-1] if isinstance(value, type) else [value]:
        found |= set(re.findall(r"\w+", one.__doc__ or ""))
        if isinstance(one, type) and one.__module__.startswith("counterpoint"):
            body = ast.parse(textwrap.dedent(inspect.getsource(one))).body[0].body  # type: ignore[attr-defined]
            found |= {
                field.target.id
                for field, doc in itertools.pairwise(body)
                if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(doc, ast.Expr)
            }
    return found


@pytest.mark.parametrize(("name", "value"), [*MET.items(), *configured()])
def test_every_parameter_is_named(name: str, value: Any) -> None:
    try:
        taken = set(inspect.signature(value).parameters) - {"args", "kwargs"}
    except ValueError:
        return
    missing = {p for p in taken - said_of(value) if not p.startswith("_")}
    assert missing == UNNAMED.get(name, set())


UNNAMED: dict[str, set[str]] = {}
"""Object -> parameters that its docstring does not name yet."""
