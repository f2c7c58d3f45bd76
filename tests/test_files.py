"""Files appear whole or not at all, and one process at a time works in a folder."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from counterpoint.errors import ConfigError
from counterpoint.files import locked, new_folder, sweep, whole_file, write_json

pytest.importorskip("fcntl")


def test_a_folder_is_held_by_one_process(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from counterpoint.files import locked\n"
        "with locked(Path(sys.argv[1])): print('in', flush=True); sys.stdin.read()\n"
    )
    words = [sys.executable, "-c", code, str(tmp_path / "run")]
    other = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None
    assert other.stdout.readline() == "in\n"
    with pytest.raises(ConfigError, match="Another process is at work in"), locked(tmp_path / "run"):
        pass
    other.kill()  # whatever ends it, the lock is gone
    other.wait()
    with locked(tmp_path / "run"), locked(tmp_path / "another"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_leaves_what_was_there(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"a": 1})
    with pytest.raises(TypeError):
        write_json(tmp_path / "a.json", {"a": object()})
    with pytest.raises(FileNotFoundError), whole_file(tmp_path / "a.json") as aside:
        (aside / "no").write_text("half")
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]
    assert '"a": 1' in (tmp_path / "a.json").read_text()


def test_two_writers_of_one_file_never_share_a_name(tmp_path: Path) -> None:
    with whole_file(tmp_path / "v.npy") as first, whole_file(tmp_path / "v.npy") as second:
        assert first != second
        assert {first.parent, second.parent} == {tmp_path}
        assert first.suffix == ".npy"
        first.write_text("first")
        second.write_text("second")
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("v.npy", "first")]  # whoever ends last, whole


def test_a_new_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    with new_folder(tmp_path / "m") as aside:
        (aside / "a").write_text("1")
    with pytest.raises(FileNotFoundError), new_folder(tmp_path / "m") as aside:
        (aside / "no" / "such").write_text("2")
    assert [p.name for p in tmp_path.iterdir()] == ["m"]
    assert (tmp_path / "m" / "a").read_text() == "1"


LEFT = """
import os, sys
from pathlib import Path
from counterpoint.files import aside_of
here = Path(sys.argv[1])
aside_of(here / "v.npy").write_text("half of it")
aside_of(here / "model").mkdir()
print("written", flush=True)
if sys.argv[2] == "dies":
    os.kill(os.getpid(), 9)
sys.stdin.read()
"""


def test_what_a_killed_process_left_goes_and_what_a_live_one_writes_stays(tmp_path: Path) -> None:
    def start(how: str) -> subprocess.Popen[str]:
        words = [sys.executable, "-c", LEFT, str(tmp_path), how]
        return subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    live = start("lives")
    assert live.stdout is not None
    assert live.stdout.readline() == "written\n"
    kept = set(tmp_path.iterdir())
    start("dies").wait()
    own = tmp_path / ".notes.of-mine.npy"
    own.write_text("no temporary file")
    foreign = tmp_path / ".v.00000000-1-aaaaaaaa.npy"  # of another machine, whose processes nobody here knows
    foreign.write_text("")
    assert len(list(tmp_path.iterdir())) == 6
    sweep(tmp_path)
    assert set(tmp_path.iterdir()) == {*kept, own, foreign}
    live.kill()
    live.wait()
    sweep(tmp_path)  # once per process, so that a folder of many files is not gone through at each write
    assert kept < set(tmp_path.iterdir())
