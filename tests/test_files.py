"""Files appear whole or not at all, and one process at a time works in a folder."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from counterpoint.errors import ConfigError
from counterpoint.files import locked, whole_file, write_json

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
