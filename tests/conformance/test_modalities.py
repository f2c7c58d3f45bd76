"""Every modality passes these checks; ``pytest tests/conformance -k NAME`` says what a new one lacks."""

from __future__ import annotations

import re
import tomllib
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from counterpoint.data.files import formats
from counterpoint.encoders.base import standard
from counterpoint.modalities import base
from tests.conformance.rows import rows

EXTRAS = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]["optional-dependencies"]

every = pytest.mark.parametrize("name", base.discover())


def key(name: str) -> str:
    """The key of a row under which an item of what is no table stands: that of its modality, if any."""
    return next(k for k in rows("items", 1, name)[0] if k not in ("row", "label", "horizon"))


@every
def test_its_file_is_called_like_it_and_so_is_that_of_its_encoder(name: str) -> None:
    assert find_spec(f"counterpoint.modalities.{name}")
    assert standard(name).modality == name


@every
def test_its_words_are_words(name: str) -> None:
    modality = base.of(name)
    assert re.fullmatch(r"[a-z][a-z_0-9]*", name)
    assert re.match(r"an? \w", modality.one)
    assert modality.many != modality.noun
    assert modality.missing.startswith(("no ", "empty "))


@every
def test_an_example_follows_from_its_generator_and_is_encoded(name: str) -> None:
    encoder = standard(name).example()
    items = [row[key(name)] for row in rows("items", 3, name)]
    vectors = encoder.encode(items)
    assert vectors.shape == (3, encoder.dim)
    assert np.isfinite(vectors).all()
    again = encoder.encode([row[key(name)] for row in rows("items", 3, name)])
    assert np.array_equal(vectors, again)


@every
def test_columns_are_told_apart(name: str) -> None:
    modality = base.of(name)
    assert modality.over <= set(base.discover()) - {name}
    assert not any(name in base.of(other).over for other in modality.over), "each cannot win against the other"
    if modality.beside:
        assert modality.lacks is not None, "it says which columns it needs beside it"


@every
def test_files_are_its_own(name: str) -> None:
    modality = base.of(name)
    assert (modality.damage is None) == (not modality.suffixes)
    own = [*modality.suffixes, *(s for f in modality.formats for s in f.suffixes)]
    others = [m for m in base.discover().values() if m is not modality]
    taken = {
        *formats.SUFFIXES,
        *(s for m in others for s in (*m.suffixes, *(x for f in m.formats for x in f.suffixes))),
    }
    assert len(set(own)) == len(own)
    assert not set(own) & taken
    assert all(re.fullmatch(r"\.[a-z0-9]+", s) for s in own)


@every
def test_what_it_needs_is_in_the_extra_of_its_name(name: str) -> None:
    packages = {re.split(r"[<>=\[]", p)[0] for p in EXTRAS.get(name, ())}
    assert set(base.of(name).needs) <= packages


@every
def test_what_can_be_typed_names_the_run(name: str) -> None:
    assert all(line.startswith(("counterpoint ", "python: ")) and "{run}" in line for line in base.of(name).then)
