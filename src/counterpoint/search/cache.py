"""Arrays kept in files that are named after what they were made from: made once, whatever is killed in between."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from counterpoint.errors import DataError
from counterpoint.files import whole_file

Arrays = dict[str, np.ndarray]


class Cache:
    """A folder of arrays. read, made: how many were there already, and how many were not.

    A file appears whole or not at all; one that is damaged is made again. Files that nobody asks for any more are not
    deleted: delete the folder.

    >>> cache = Cache(Path("cache"))
    >>> for _ in range(2):
    ...     found = cache.get(digest("a model", "a text"), lambda: {"z": np.ones(3)})
    >>> found["z"].tolist(), cache.made, cache.read
    ([1.0, 1.0, 1.0], 1, 1)
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.read, self.made = folder, 0, 0

    def get(self, key: str, make: Callable[[], Arrays]) -> Arrays:
        """The arrays of a key, made and kept where they are not there. `DataError` where they cannot be written.

        key: what tells them from others. make: gives the arrays.
        """
        path = self.folder / f"{key}.npz"
        try:
            with np.load(path, allow_pickle=False) as held:
                found = {name: held[name] for name in held.files}
            self.read += 1
            return found
        except (OSError, ValueError, zipfile.BadZipFile):
            pass
        found = make()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with whole_file(path) as aside, aside.open("wb") as file:
                np.savez(file, **found)  # type: ignore[arg-type]  # the stubs take the names for options
        except OSError as error:
            raise DataError(f"{self.folder} cannot be written ({error}). Name another with --cache.") from error
        self.made += 1
        return found


def digest(*parts: str) -> str:
    """A name for what these strings, in this order, lead to.

    >>> digest("a", "b") == digest("a", "b"), digest("a", "b") == digest("ab")
    (True, False)
    """
    total = hashlib.sha256()
    for part in parts:
        encoded = part.encode("utf-8", "surrogatepass")
        total.update(len(encoded).to_bytes(8, "little") + encoded)
    return total.hexdigest()[:40]
