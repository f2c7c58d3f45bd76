"""How files are read, where that is said rather than found."""

from __future__ import annotations

import codecs
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from counterpoint.errors import ConfigError

SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
"""What may stand between the fields of a line, and its name."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What is said about files; None: it is found by looking at them.

    separator: between the fields of separated values: ``,`` ``;`` ``|`` or ``tab``. encoding: of text, by a name that
    Python knows (``cp1252``, ``utf-16``). header: whether the first line of separated values names the columns.
    anywhere: whether a table may name files (of images, of recordings) that lie outside its own folder.

    Raises `ConfigError` for a separator or an encoding that there is not.
    """

    separator: str | None = None
    encoding: str | None = None
    header: bool | None = None
    anywhere: bool = False

    def __post_init__(self) -> None:
        if self.separator is not None:
            names = {**{name: sign for sign, name in SEPARATORS.items()}, "\\t": "\t"}
            object.__setattr__(self, "separator", names.get(self.separator, self.separator))
            if self.separator not in SEPARATORS:
                raise ConfigError(
                    f"{self.separator!r} is no separator. Type one of: --separator ',' --separator ';' --separator '|' "
                    "--separator tab"
                )
        if self.encoding is not None:
            try:
                codecs.lookup(self.encoding)
            except LookupError as error:
                raise ConfigError(
                    f"There is no encoding {self.encoding!r}. Type for instance: --encoding cp1252 (also: utf-8, "
                    "utf-16, latin-1, cp1250, cp1251, shift_jis, gb18030)"
                ) from error


AS_FOUND = Reading()
Said: TypeAlias = Reading | Mapping[str, Any] | None


def reading_of(said: Said) -> Reading:
    """What is said about files, from a mapping of the fields of `Reading` too; None: nothing."""
    if isinstance(said, Reading):
        return said
    try:
        return Reading(**(said or {}))
    except TypeError as error:
        raise ConfigError(
            f"{', '.join(map(str, said or ()))}: files are read with separator, encoding, header and anywhere."
        ) from error


# --- limits ----------------------------------------------------------------------------------------------------

ROW = "COUNTERPOINT_MAX_ROW_BYTES"
EXPANSION = "COUNTERPOINT_MAX_EXPANSION"
SMALL = 256 * 2**20
"""Bytes that a compressed file may always become."""


def most_row_bytes() -> int:
    """Bytes of one row, at most (64 MiB, or what the environment says)."""
    return _number(ROW, 64 * 2**20)


def most_bytes(compressed: int) -> int:
    """Bytes that a compressed file of a size may become: `SMALL`, or 200 times its size (or what the environment says)
    where that is more."""
    return max(SMALL, _number(EXPANSION, 200) * compressed)


def too_long(what: str) -> str:
    """The sentence for a row that is longer than a row may be.

    what: names the row.
    """
    return (
        f"{what} holds more than {most_row_bytes():,} bytes, the most that one row may have. If it is a row all the "
        f"same, set {ROW} to more bytes."
    )


def too_large(what: str, compressed: int) -> str:
    """The sentence for a file that becomes larger than it may.

    what: names the file. compressed: its bytes.
    """
    return (
        f"{what} has {compressed:,} bytes and becomes more than {most_bytes(compressed):,} when it is unpacked. If "
        f"that is right, set {EXPANSION} to how many times larger it may become (now {_number(EXPANSION, 200):,})."
    )


def _number(name: str, usual: int) -> int:
    said = os.environ.get(name, "")
    if not said:
        return usual
    if not said.isdigit() or not int(said):
        raise ConfigError(f"{name} is {said!r}; expected a whole number above 0, for example {usual}.")
    return int(said)
