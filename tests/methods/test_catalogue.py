"""What is read from the source of the methods is what the imported classes say."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import pytest

from counterpoint.errors import ConfigError
from counterpoint.methods.base import discover
from counterpoint.methods.catalogue import Page, page, pages

SAID = [f.name for f in dataclasses.fields(Page) if f.name in ("name", "title", "paper", "year", "modalities", "needs")]


def test_every_method_is_found_with_what_it_says() -> None:
    assert list(pages()) == list(discover())
    for name, cls in discover().items():
        assert [getattr(pages()[name], field) for field in SAID] == [getattr(cls.spec, field) for field in SAID]


def test_settings_are_those_of_the_config() -> None:
    for name, cls in discover().items():
        assert [s.split(" = ")[0] for s in pages()[name].settings] == [f.name for f in dataclasses.fields(cls.Config)]


def test_a_page_has_its_equation_and_its_recipe() -> None:
    simcse = page("simcse")
    assert "L_i = -log" in simcse.doc
    assert 'if size == "published"' in simcse.recipe
    assert "temperature = 0.05" in simcse.settings


def test_an_unknown_name_is_refused_with_those_there_are() -> None:
    with pytest.raises(ConfigError, match=r"no method 'simsce'.*simcse"):
        page("simsce")


def test_nothing_heavy_is_imported() -> None:
    code = "import sys; from counterpoint.cli import main; main(['methods', 'simcse']); print('torch' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.endswith("False\n")
