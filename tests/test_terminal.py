"""Nothing that a row, a column or a server says reaches the terminal as a command."""

from __future__ import annotations

import io

import pytest
from rich.table import Table
from rich.text import Text

from counterpoint.cli import main
from counterpoint.errors import visible
from counterpoint.terminal import Console

HOSTILE = "\x1b]0;OWNED\x07\x1b[2J\x1b[31mred \x9b2J \u202etxt\r"


def printed(*what: object) -> str:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=200)
    console.print(*what)
    return out.getvalue()


def test_control_characters_are_written_out() -> None:
    assert visible(HOSTILE) == r"\x1b]0;OWNED\x07\x1b[2J\x1b[31mred \x9b2J \u202etxt\r"
    assert visible("a\tb\nc\r\n é 中 🦊") == "a\tb\nc\r\n é 中 🦊"


def test_a_console_shows_them_and_keeps_its_own_colours() -> None:
    table = Table(HOSTILE)
    table.add_row(Text(HOSTILE, style="bold"))
    for shown in (printed(HOSTILE), printed(Text(HOSTILE, style="red")), printed(table)):
        for command in ("\x1b]0;", "\x07", "\x1b[2J", "\x9b", "\u202e"):
            assert command not in shown
        assert "OWNED" in shown
    assert "\x1b[31m" in printed(Text("x", style="red"))


def test_the_name_of_a_file_in_an_error_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "inspect", "no\x1b[2Jfile.jsonl"]) == 2
    said = capsys.readouterr().err
    assert "\x1b[2J" not in said
    assert r"no\x1b[2Jfile" in said
