"""Separated values: every dialect gives the rows that were meant, and says what was found."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from counterpoint.data.files import dialect, textfile
from counterpoint.data.files.formats import tables
from counterpoint.data.files.options import Reading
from counterpoint.data.log import Log
from counterpoint.errors import ConfigError, DataError


def read(path: Path, content: str | bytes, **said: Any) -> tuple[list[dict[str, Any]], str]:
    """The rows, and all that was said."""
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    log = Log()
    found = list(tables(path, Reading(**said), log))
    rows = pa.concat_tables(found, promote_options="permissive").to_pylist()
    assert len({tuple(t.schema.types) for t in found}) == 1, "every block has the same types"
    return rows, " ".join(log.lines())


TWO = [{"a": "one, two; three", "b": 1}, {"a": "four", "b": 2}]

FOUND: list[tuple[str, str, str, list[dict[str, Any]], str]] = [
    ("semicolons", "x.csv", "a;b\none, two| three;1\nfour;2\n",
     [{"a": "one, two| three", "b": 1}, {"a": "four", "b": 2}],
     "separated by semicolons (;)"),
    ("tabs", "x.csv", "a\tb\none, two; three\t1\nfour\t2\n", TWO, "separated by tabs"),
    ("bars", "x.csv", "a|b\none, two; three|1\nfour|2\n", TWO, "separated by bars (|)"),
    ("commas in a .tsv", "x.tsv", "a,b\n1,2\n3,4\n", [{"a": 1, "b": 2}, {"a": 3, "b": 4}], "separated by commas (,)"),
    ("Excel's hint", "x.csv", "sep=;\na;b\n1;2\n", [{"a": 1, "b": 2}], "semicolons"),
    ("decimal commas", "x.csv", "a;b\n1,5;x\n3;y\n1.234,25;z\n", [{"a": 1.5, "b": "x"}, {"a": 3.0, "b": "y"},
     {"a": 1234.25, "b": "z"}], "with decimal commas"),
    ("decimal commas without a header", "x.csv", "1,5;2,5\n3,5;4,25\n", [{"column_1": 1.5, "column_2": 2.5},
     {"column_1": 3.5, "column_2": 4.25}], "decimal commas"),
    ("thousands are no decimals", "x.csv", "a;b\nx;1,234\ny;12,345\n", [{"a": "x", "b": "1,234"},
     {"a": "y", "b": "12,345"}], "semicolons"),
    ("quotes within quotes", "x.csv", 'a,b\n"x ""y"", z",1\n', [{"a": 'x "y", z', "b": 1}], ""),
    ("a backslash before them", "x.csv", 'a,b\n"x \\"y\\", z",1\n"w",2\n', [{"a": 'x "y", z', "b": 1},
     {"a": "w", "b": 2}], "backslash"),
    ("spaces before them", "x.csv", 'a, b\n"x, y", "z, w"\n"u", "v"\n',
     [{"a": "x, y", "b": "z, w"}, {"a": "u", "b": "v"}],
     ""),
    ("a quote within a field", "x.csv", 'a,b\n5" pipe,1\n"x, y",2\n',
     [{"a": '5" pipe', "b": 1}, {"a": "x, y", "b": 2}], ""),
    ("a field of two lines", "x.csv", 'a,b\n"x\ny, z",1\n', [{"a": "x\ny, z", "b": 1}], "the first in line 2"),
    ("quotes in a .tsv that keeps the rules", "x.tsv", 'a\tb\n"x\ty"\t1\n', [{"a": "x\ty", "b": 1}], ""),
    ("spaces in the header", "x.csv", "a , b\nx, 0\ny, 1\n", [{"a": "x", "b": 0}, {"a": "y", "b": 1}], ""),
    ("an index without a name", "x.csv", ",a,0\n0,x,1\n", [{"index": 0, "a": "x", "0": 1}], "are called index"),
    ("line breaks of Windows and blank lines", "x.csv", "\r\na;b\r\n\r\n1;2\r\n", [{"a": 1, "b": 2}], "semicolons"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "content", "rows", "says"), [f[1:] for f in FOUND], ids=[f[0] for f in FOUND])
def test_what_is_found_is_said(tmp_path: Path, name: str, content: str, rows: list[dict[str, Any]], says: str) -> None:
    found, said = read(tmp_path / name, content)
    assert found == rows
    assert says in said
    assert says or not said


def test_no_line_is_swallowed_by_stray_quotes(tmp_path: Path) -> None:
    lines = ['"Stay, she\tone', "the middle\ttwo", 'of it" she\tthree', 'the "end"\tfour', '"Go\tfive', 'on"\tsix']
    rows, said = read(tmp_path / "x.tsv", "\n".join(["a\tb", *lines]))
    assert [tuple(r.values()) for r in rows] == [tuple(line.split("\t")) for line in lines]
    assert "without quoting (a quote in line 4 closes none)" in said
    two = ['"Go\tfive', 'on"\tsix']  # which keep the rules of quotes by accident
    assert len(read(tmp_path / "y.tsv", "\n".join(["a\tb", *two]))[0]) == 2
    assert len(read(tmp_path / "y.csv", 'a,b\n"Stay, she\nmore, of "it\n')[0]) == 2


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ('a,b\n"x, y",1\n"Stay, she,2\nz,3\nmore" she,4\n',
         "opens a field in line 3 and closes in the middle of one in line 5"),
        ('a,b\n"x, y",1\n"Stay, she,2\nz,3\n', "opens a field in line 3 and never closes"),
        ("a;b\n1;2\n1;2;3\n", "row 3 has 3 fields where the header has 2"),
        ("text\none, two\n", "end the name of the file with .txt"),
        ("a, a \n1,2\n", "names a column twice: a"),
        (b"a,b\n1,\x00\n2,\x003\n", "bytes that are zero"),
    ],
)  # fmt: skip
def test_lines_that_are_no_rows(tmp_path: Path, content: str | bytes, says: str) -> None:
    with pytest.raises(DataError) as error:
        read(tmp_path / "x.csv", content)
    assert says in str(error.value)


# --- header ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", ["5.1,3.5,x", "3,some text,a longer text", "0,0,5"])
def test_numbers_in_the_first_line_are_a_row(tmp_path: Path, first: str) -> None:
    rows, said = read(tmp_path / "x.csv", f"{first}\n{first}\n")
    assert len(rows) == 2
    assert list(rows[0]) == ["column_1", "column_2", "column_3"]
    assert "is taken for a row" in said
    assert "--no-header" in said


@pytest.mark.parametrize("first", ["0,1,2", "x,1990,2000", ",a,0", "x,0,1"])
def test_numbers_that_count_up_are_names(tmp_path: Path, first: str) -> None:
    rows, said = read(tmp_path / "x.csv", f"{first}\n7,3,9\n")
    assert len(rows) == (2 if first == "x,0,1" else 1)  # two of three are too few to be counted
    assert "is taken for a row" not in said or len(rows) == 2


def test_a_header_can_be_denied_and_named(tmp_path: Path) -> None:
    content = "some words of a text,other words\nmore words of a text,still others\n"
    assert [next(iter(r.values())) for r in read(tmp_path / "x.csv", content, header=False)[0]] == [
        "some words of a text", "more words of a text",
    ]  # fmt: skip
    assert read(tmp_path / "y.csv", "1.5,2\n3,4\n", header=True)[0] == [{"1.5": 3, "2": 4}]
    long = "the first of many texts in this file,the text that goes with it\n"
    assert "type --no-header" in read(tmp_path / "z.csv", long * 5)[1]


# --- types -----------------------------------------------------------------------------------------------------


def test_a_column_is_numbers_where_they_are_all_of_it(tmp_path: Path) -> None:
    cells = {
        "whole": ["1", " 2", "NA", "-3"],
        "zeros": ["01", "1", "007", "7"], "long": ["1", "10000000000000000001", "", "2"],
        "label": ["1.1", "1.10", "2.0", "2"], "share": ["0.5", "1e-3", "", ".25"], "late": ["1", "2", "3", "x"],
        "empty": ["", "NA", "", ""], "ids": ["900719925474099312", "900719925474099313", "1", "2"],
    }  # fmt: skip
    text = "\n".join([",".join(cells), *(",".join(row) for row in zip(*cells.values()))])
    rows, _ = read(tmp_path / "x.csv", text)
    found = {name: [r[name] for r in rows] for name in cells}
    assert found == {
        "whole": [1, 2, None, -3],
        "zeros": cells["zeros"],
        "long": cells["long"],
        "label": cells["label"],
        "share": [0.5, 0.001, None, 0.25],
        "late": cells["late"],
        "empty": [None] * 4,
        "ids": [900719925474099312, 900719925474099313, 1, 2],
    }


@pytest.mark.parametrize("late", ["x", "1.5", "1,5", "10000000000000000001", ""])
def test_types_are_those_of_the_whole_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, late: str) -> None:
    monkeypatch.setattr(textfile, "CHUNK", 64)
    numbers = [str(i) for i in range(100)]
    rows, _ = read(tmp_path / "x.csv", "a;n\n" + "".join(f"w;{n}\n" for n in [*numbers, late]))
    found = [r["n"] for r in rows]
    assert len(found) == 101
    assert found[7] == {"": 7, "1.5": 7.0, "1,5": 7.0}.get(late, "7")
    assert found[-1] == {"": None, "1.5": 1.5, "1,5": 1.5}.get(late, late)


def test_a_quote_behind_what_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dialect, "SCAN", 100)
    with pytest.raises(DataError, match="lines became"):
        read(tmp_path / "x.csv", "a,b\n" + "x,1\n" * 100 + '"y\n' + "x,1\n" * 900 + '",2\n')


# --- encodings -------------------------------------------------------------------------------------------------

GERMAN = "a,b\nHinzufügen,Größe ändern\nLöschen,Überprüfen\n"


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252", "latin-1"]
)
def test_encodings_are_found(tmp_path: Path, encoding: str) -> None:
    rows, said = read(tmp_path / "x.csv", GERMAN.encode(encoding))
    assert rows == [{"a": "Hinzufügen", "b": "Größe ändern"}, {"a": "Löschen", "b": "Überprüfen"}]
    if encoding in ("cp1252", "latin-1"):
        assert "in the encoding cp1252 (as in 'Hinzufügen'; if that is wrong, type --encoding NAME)" in said


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("cp1250", "Zażółć gęślą jaźń\nDodaj nową stronę"),
        ("cp1251", "Привет мир\nДобавить новую страницу"),
        ("shift_jis", "日本語のテキストです。\n新しいページを追加"),
        ("gb18030", "添加新页面\n此应用未找到，请重试"),
        ("cp1253", "Προσθήκη νέας σελίδας"),
    ],
)
def test_encodings_of_other_letters(tmp_path: Path, encoding: str, text: str) -> None:
    for name in ("x.txt", "y.csv"):
        rows, _ = read(tmp_path / name, f"text\n{text}\n".encode(encoding))
        assert [r["text"] for r in rows][-len(text.split("\n")) :] == text.split("\n")


def test_an_encoding_can_be_named(tmp_path: Path) -> None:
    assert read(tmp_path / "x.csv", GERMAN.encode("cp850"), encoding="cp850")[0][0]["a"] == "Hinzufügen"
    with pytest.raises(DataError, match=r"not of the encoding that it begins with.*--encoding NAME"):
        read(tmp_path / "y.csv", GERMAN.encode("cp1252"), encoding="utf-8")
    with pytest.raises(ConfigError, match="no encoding 'utf-9'"):
        Reading(encoding="utf-9")
    with pytest.raises(ConfigError, match="--separator tab"):
        Reading(separator="::")


def test_one_wrong_line_of_utf8_is_no_other_encoding(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="0xe9 in line 4 is not UTF-8, though other characters beyond ASCII are"):
        read(tmp_path / "x.csv", GERMAN.encode() + b"caf\xe9,b\n")
