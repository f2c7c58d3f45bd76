"""Scores of pairs kept on disk, found again by what the texts say, in whatever order or file they come."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from threading import Lock

import numpy as np

from counterpoint.encoders.cross import Pair, Scorer
from counterpoint.errors import ConfigError, DataError

PART = 2_048
"""Pairs scored before what is known is written: what an interruption costs at most."""


def pair_id(pair: Pair) -> bytes:
    """16 bytes that only this pair of texts has, in this order."""
    a, b = (text.encode() for text in pair)
    return hashlib.blake2b(len(a).to_bytes(8, "little") + a + b, digest_size=16).digest()


class Scores:
    """A `Scorer` that asks another one only for pairs whose scores it has not kept.

    scorer: None: pairs without a kept score have none (NaN). path: of the file, made where there is none (None: kept in
    memory). name: of the scorer; a file of another one is refused, as its scores mean something else.

    Safe to use from several threads and processes; what was scored survives an interruption.

    >>> class Longer:
    ...     asked = 0
    ...     def score(self, pairs):
    ...         self.asked += len(pairs)
    ...         return np.array([len(a) - len(b) for a, b in pairs], dtype=np.float32)
    >>> scorer = Longer()
    >>> kept = Scores(scorer)
    >>> kept.score([("abc", "a")]).tolist(), kept.score([("abc", "a"), ("a", "ab")]).tolist(), scorer.asked
    ([2.0], [2.0, -1.0], 2)
    """

    def __init__(self, scorer: Scorer | None, path: Path | str | None = None, *, name: str = "") -> None:
        self.scorer, self.path, self._lock = scorer, path, Lock()
        if path is not None:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
        try:
            self._file = sqlite3.connect(
                ":memory:" if path is None else path, timeout=60, check_same_thread=False, isolation_level=None
            )
            self._file.execute("CREATE TABLE IF NOT EXISTS scores (id BLOB PRIMARY KEY, logits BLOB) WITHOUT ROWID")
            self._file.execute("CREATE TABLE IF NOT EXISTS facts (what TEXT PRIMARY KEY, value TEXT)")
        except sqlite3.Error as error:
            raise DataError(f"{path} cannot hold scores ({error}). Give the path of a new file.") from error
        if (held := self._fact("name", name)) != name and name:
            raise ConfigError(
                f"The scores in {path} are those of {held!r}, not of {name!r}. Give another file, or remove this one."
            )

    def _fact(self, what: str, value: str) -> str:
        """What the file says of itself; it is told where it says nothing."""
        if value:
            self._file.execute("INSERT OR IGNORE INTO facts VALUES (?, ?)", (what, value))
        found = self._file.execute("SELECT value FROM facts WHERE what = ?", (what,)).fetchone()
        return str(found[0]) if found else ""

    @property
    def width(self) -> int | None:
        """Scores of a pair; None: nothing is kept yet."""
        found = self._fact("width", "")
        return int(found) if found else None

    def __len__(self) -> int:
        return int(self._file.execute("SELECT COUNT(*) FROM scores").fetchone()[0])

    def put(self, pairs: Sequence[Pair], scores: np.ndarray) -> None:
        """Keep scores ``(N,)`` or ``(N, C)`` of pairs; rows that are not finite are no scores and are left out."""
        scores = np.asarray(scores, dtype=np.float32).reshape(len(pairs), -1)
        with self._lock:
            if (width := int(self._fact("width", str(scores.shape[1])))) != scores.shape[1]:
                raise DataError(f"{scores.shape[1]} scores of each pair were given; {self.path} holds {width} of each.")
            rows = [(pair_id(p), s.tobytes()) for p, s in zip(pairs, scores) if np.isfinite(s).all()]
            self._file.execute("BEGIN IMMEDIATE")
            self._file.executemany("INSERT OR REPLACE INTO scores VALUES (?, ?)", rows)
            self._file.execute("COMMIT")

    def score(self, pairs: Sequence[Pair]) -> np.ndarray:
        """``(N,)``, or ``(N, C)``; NaN where neither the file nor the scorer has a score."""
        ids = [pair_id(p) for p in pairs]
        if self.scorer is not None:
            known = self._known(ids)
            # Equal pairs are asked for once.
            missing = list({i: p for i, p in zip(ids, pairs) if i not in known}.values())
            for start in range(0, len(missing), PART):
                part = missing[start : start + PART]
                self.put(part, self.scorer.score(part))
        known = self._known(ids)
        out = np.full((len(pairs), self.width or 1), np.nan, dtype=np.float32)
        for row, i in enumerate(ids):
            if i in known:
                out[row] = np.frombuffer(known[i], dtype=np.float32)
        return out[:, 0] if out.shape[1] == 1 else out

    def _known(self, ids: Sequence[bytes]) -> dict[bytes, bytes]:
        found: dict[bytes, bytes] = {}
        with self._lock:
            for start in range(0, len(ids), 500):  # as many values as any build of SQLite takes in one question
                part = ids[start : start + 500]
                marks = ",".join("?" * len(part))
                found.update(self._file.execute(f"SELECT id, logits FROM scores WHERE id IN ({marks})", part))
        return found
