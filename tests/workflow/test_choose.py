"""The columns choose the method and say why; settings are read as what they hold."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import product
from typing import Any, Literal

import pytest

from counterpoint.data.schema import Schema
from counterpoint.errors import ConfigError
from counterpoint.methods.base import Spec, Usual, discover, find, method
from counterpoint.methods.text.in_batch import InBatch
from counterpoint.train.config import TrainConfig
from counterpoint.workflow.choose import check, choose, configured
from counterpoint.workflow.settings import kind, typed
from counterpoint.workflow.words import KINDS, needs


class Texts:
    """Rows that are texts of so many words."""

    def __init__(self, words: int) -> None:
        self.words = words

    def texts(self, limit: int) -> list[str]:
        return ["w " * self.words] * 3


def schema(kind: str, modality: str = "text") -> Schema:
    return Schema(kind=kind, columns={}, modalities={m: m for m in modality.split("+")}, why=f"{kind}: this and that.")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("kind", "modality", "method"),
    [
        ("pairs", "text", "in-batch"),
        ("scored", "text", "graded"),
        ("labelled", "text", "supcon"),
        ("labelled", "image", "supcon"),
        ("items", "image", "directpred"),
        ("towers", "image+text", "two-tower"),
    ],
)
def test_the_kind_of_rows_chooses_a_method_that_takes_them(kind: str, modality: str, method: str) -> None:
    found = schema(kind, modality)
    cls, why = choose(found, Texts(3), "auto")  # type: ignore[arg-type]
    assert cls.spec.name == method
    assert why.startswith(f"Method {method} (")
    assert why.endswith(f", because the rows hold {'images' if kind == 'items' else KINDS[kind]}: this and that.")
    check(cls, found)


@pytest.mark.parametrize(("words", "method", "shape"), [(59, "simcse", "short"), (60, "contriever", "long")])
def test_the_length_of_texts_decides(words: int, method: str, shape: str) -> None:
    cls, why = choose(schema("texts"), Texts(words), "auto")  # type: ignore[arg-type]
    assert cls.spec.name == method
    assert f"They are {shape} (median {words} words)" in why


def test_a_method_that_was_named_is_checked() -> None:
    cls, why = choose(schema("items", "image"), Texts(3), "simclr")  # type: ignore[arg-type]
    assert cls.spec.name == "simclr"
    assert "as asked; the rows hold images" in why
    with pytest.raises(ConfigError, match=r"learns from text; these rows hold image\. Leave --method out"):
        choose(schema("texts", "image"), Texts(3), "simcse")  # type: ignore[arg-type]


def test_every_kind_has_words_and_a_method() -> None:
    needs = {kind for cls in discover().values() for kind in cls.spec.needs}
    usual = {one.kind for cls in discover().values() for one in cls.spec.usual}
    assert needs == set(KINDS) == usual


def contested(specs: Iterable[Spec]) -> list[tuple[str, str]]:
    """Kinds and modalities for which, at some length of texts, two methods are the first choice, or none is."""
    bounds: dict[tuple[str, str], list[tuple[float, float]]] = {}
    otherwise: list[tuple[str, str]] = []
    for spec in specs:
        for held, modality in product(spec.needs, {"+".join(sorted(spec.modalities)), *spec.modalities}):
            one = spec.first_for(held, modality)
            if one is not None and one.otherwise:
                otherwise.append((held, modality))
            elif one is not None:
                bounds.setdefault((held, modality), []).append((one.least, one.below))
    found = [key for key in set(otherwise) if otherwise.count(key) > 1]
    for key, some in bounds.items():
        least, below = zip(*sorted(some))
        if least != (0, *below[:-1]) or below[-1] != math.inf:
            found.append(key)
    return found


def test_one_method_is_the_first_choice() -> None:
    assert contested(cls.spec for cls in discover().values()) == []


def test_two_first_choices_and_a_gap_would_be_seen() -> None:
    one = InBatch.spec
    assert contested([one, one]) == [("pairs", "text")]
    for below, least in ((10, 11), (11, 10)):
        parts = (Usual("pairs", below=below), Usual("pairs", least=least))
        assert contested(dataclasses.replace(one, usual=(part,)) for part in parts) == [("pairs", "text")]
    parts = (Usual("pairs", least=10), Usual("pairs", below=10))
    assert contested(dataclasses.replace(one, usual=(part,)) for part in parts) == []


def test_a_method_is_not_usual_for_what_it_does_not_need() -> None:
    with pytest.raises(ConfigError, match="method x is usual for items; it needs"):
        method("x", title="", paper="", year=0, modalities=("text",), needs=("pairs",), usual=("items",))


def test_rows_without_a_usual_method_are_told_which_methods_take_them() -> None:
    with pytest.raises(ConfigError, match=r"No method is usual for such rows: .*Name one of: .*supcon"):
        choose(schema("labelled", "image+text"), Texts(3), "auto")  # type: ignore[arg-type]


def test_settings_of_a_method_replace_the_recipes() -> None:
    base = InBatch.recipe("small").config
    changed = configured(InBatch, base, {"temperature": "1", "both": "false"})
    assert (changed.temperature, changed.both, changed.learnable) == (1.0, False, base.learnable)
    assert isinstance(changed.temperature, float)


# --- values ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Settings:
    whole: int = 1
    real: float = 1.0
    yes: bool = True
    word: str = ""
    either: Literal["a", "b"] = "a"
    perhaps: int | None = None
    choice: Literal["x"] | None = "x"
    two: tuple[float, float] = (0.0, 1.0)
    many: tuple[int, ...] = ()
    named: dict[str, float] = field(default_factory=dict)
    inner: TrainConfig = field(default_factory=TrainConfig)


@pytest.mark.parametrize(
    ("name", "given", "value"),
    [
        ("whole", "7", 7),
        ("whole", 7.0, 7),
        ("real", "1e-3", 1e-3),
        ("real", 2, 2.0),
        ("yes", "false", False),
        ("word", "7", "7"),
        ("either", "b", "b"),
        ("perhaps", "none", None),
        ("perhaps", "3", 3),
        ("choice", "null", None),
        ("two", "[0.9, 1]", (0.9, 1.0)),
        ("two", [0.9, 1], (0.9, 1.0)),
        ("many", "[1, 2, 3]", (1, 2, 3)),
        ("many", "4", (4,)),
        ("named", {"x": "1"}, {"x": 1.0}),
        ("named", '{"x": 1}', {"x": 1.0}),
    ],
)
def test_a_value_is_read_as_what_the_setting_holds(name: str, given: Any, value: Any) -> None:
    found = typed(Settings, {name: given}, of="it", option="--{}")[name]
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("whole", "7.5"),
        ("whole", "true"),
        ("whole", None),
        ("real", "fast"),
        ("real", True),
        ("yes", "1"),
        ("word", 7),
        ("either", "c"),
        ("two", "[1]"),
        ("two", "0.9"),
        ("many", '["a"]'),
        ("named", "3"),
        ("inner", "{}"),
    ],
)
def test_a_value_of_another_kind_is_refused(name: str, given: Any) -> None:
    with pytest.raises(ConfigError, match=rf"The setting {name} of it is .*was given\. Type for instance: --{name}"):
        typed(Settings, {name: given}, of="it", option="--{}")


def test_kinds_in_words() -> None:
    assert kind(float) == "a number"
    assert kind(int | None) == "a whole number or none"
    assert kind(Literal["a", "b"]) == "one of a, b"
    assert kind(tuple[float, ...]) == "a list of numbers"


def test_what_a_method_needs_is_said_once() -> None:
    assert needs(find("loss-behaviour").spec) == ["texts or images"]
    assert needs(InBatch.spec) == ["pairs"]
