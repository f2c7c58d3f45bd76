"""Sheets of .xlsx files."""

from __future__ import annotations

import datetime
import sys
from pathlib import Path

import pytest

from counterpoint.data.files.read import read
from counterpoint.data.log import Log
from counterpoint.errors import DataError, MissingExtra

openpyxl = pytest.importorskip("openpyxl")


def book(path: Path, *sheets: list[list[object]]) -> Path:
    made = openpyxl.Workbook()
    made.remove(made.active)
    for i, rows in enumerate(sheets):
        sheet = made.create_sheet(f"sheet {i}")
        for row in rows:
            sheet.append(row)
    made.save(path)
    return path


def test_a_sheet(tmp_path: Path) -> None:
    rows = [["text ", "n", "day", "mixed"], ["größer", 1.5, datetime.datetime(2024, 1, 31), 1], []]
    rows.append(["b", None, None, "x"])
    log = Log()
    found = read(book(tmp_path / "x.xlsx", [], rows), log=log)
    assert found.to_list() == [
        {"text": "größer", "n": 1.5, "day": "2024-01-31", "mixed": "1"},
        {"text": "b", "n": None, "day": None, "mixed": "x"},
    ]
    assert any("Of the sheets sheet 0, sheet 1" in line for line in log.lines())
    assert read(book(tmp_path / "y.xlsx", [[1, 2], [3, 4]])).to_list()[0] == {"column_1": 1, "column_2": 2}


def test_what_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = book(tmp_path / "x.xlsx", [["text"], ["a"]])
    (tmp_path / "cut.xlsx").write_bytes(whole.read_bytes()[:-300])
    with pytest.raises(DataError, match=r"cut.xlsx cannot be read as a workbook"):
        read(tmp_path / "cut.xlsx")
    with pytest.raises(DataError, match="holds no rows"):
        read(book(tmp_path / "empty.xlsx", []))
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with pytest.raises(MissingExtra, match=r"pip install 'counterpoint\[excel\]'"):
        read(whole)
