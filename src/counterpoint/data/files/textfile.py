"""Text of any encoding, compressed or not, as UTF-8: what every reader of lines begins with."""

from __future__ import annotations

import codecs
import gzip
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO, Any

from counterpoint.data.files import options, store
from counterpoint.data.files.options import AS_FOUND, Reading
from counterpoint.data.files.store import File
from counterpoint.errors import DataError

CHUNK = 32 * 2**20
"""Bytes of text parsed at once."""
LOOK, LOOK_FAR = 64 * 2**20, 4 * 2**20
"""Bytes of a file that are looked at to find its encoding: of one on this machine, and of one that is compressed or
lies elsewhere. What comes behind them is taken to be like them."""
_SAMPLE = 16 * 2**10
"""Bytes of lines beyond ASCII by which an encoding is told."""
_GUESSED = (".csv", ".tsv", ".txt", ".md")
"""Files that are written in any encoding; JSON is UTF-8, so that a line of it that is not is damaged."""
_BLOCK = 2**20

_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_LIKELY = (
    "cp1252", "cp1250", "cp1251", "koi8_r", "cp1253", "cp1254", "shift_jis", "euc_jp", "gb18030", "big5", "euc_kr",
)  # fmt: skip
"""Encodings among which one is looked for: the more there are, the more often a short text fits a wrong one."""

_TURKISH = set("ĞİŞğış".encode("cp1254"))
"""Bytes at which the Turkish encoding and the western one differ; in the latter they are letters of Icelandic."""


@dataclass(frozen=True)
class Encoding:
    """name: as Python knows it. mark: bytes of a byte-order mark before the text. word: a word of the file beyond
    ASCII, where the encoding was told by such words and may be wrong."""

    name: str
    mark: int = 0
    word: str = ""

    def __str__(self) -> str:
        return f"{self.name} (as in {self.word!r}; if that is wrong, type --encoding NAME)" if self.word else self.name


def open_text(path: File, reading: Reading = AS_FOUND) -> IO[bytes]:
    """The text of a file as UTF-8 without a byte-order mark, decompressed where it is named .gz.

    Raises `DataError` where the encoding cannot be told. Text that is not what it was told to be raises
    `UnicodeDecodeError` when it is reached.

    path: of the file. reading: what is said of it.
    """
    found = encoding(path, reading)
    stream = opened(path)
    stream.seek(found.mark)
    return stream if found.name == "utf-8" else io.BufferedReader(_AsUtf8(stream, found.name), _BLOCK)  # type: ignore[return-value, type-var]


def opened(path: File) -> IO[bytes]:
    """The bytes of a file, decompressed where it is named .gz and no further than `options.most_bytes` allows.

    path: of the file.
    """
    raw: Any = path.open("rb")
    return _Unzipped(raw, path) if zipped(path) else raw  # type: ignore[return-value]


def zipped(path: File) -> bool:
    """Whether the file of this path is named .gz."""
    return path.name.lower().endswith(".gz")


def seekable(path: File, reading: Reading) -> bool:
    """Whether reading can begin at a byte in the middle of a file: it is neither compressed nor of another encoding.

    path: of the file. reading: what is said of it.
    """
    return not zipped(path) and encoding(path, reading).name == "utf-8"


class _Unzipped(gzip.GzipFile):
    """A compressed file, that stops where it becomes larger than it should."""

    def __init__(self, raw: Any, path: File) -> None:
        super().__init__(fileobj=raw)
        self.myfileobj = raw  # closed together
        self._path, self._bytes = path, store.size(path)
        self._most = options.most_bytes(self._bytes)

    def read(self, size: int | None = -1) -> bytes:
        if size is None or size < 0:
            size = self._most + 1
        return self._checked(super().read(size))

    def readline(self, size: int | None = -1) -> bytes:  # type: ignore[override]
        return self._checked(super().readline(-1 if size is None else size))

    def _checked(self, found: bytes) -> bytes:
        if self.tell() > self._most:
            raise DataError(options.too_large(str(self._path), self._bytes))
        return found


class _AsUtf8(io.RawIOBase):
    """A stream of bytes in another encoding as one of UTF-8."""

    def __init__(self, stream: IO[bytes], encoding: str) -> None:
        self._stream = stream
        self._decoder = codecs.getincrementaldecoder(encoding)()
        self._rest = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._rest:
            block = self._stream.read(_BLOCK)
            self._rest = self._decoder.decode(block, final=not block).encode("utf-8", "surrogatepass")
            if not block and not self._rest:
                return 0
        size = min(len(buffer), len(self._rest))
        buffer[:size], self._rest = self._rest[:size], self._rest[size:]
        return size

    def close(self) -> None:
        self._stream.close()
        super().close()


# --- lines -----------------------------------------------------------------------------------------------------


def blocks(stream: IO[bytes], what: File) -> Iterator[bytes]:
    """Whole lines, about `CHUNK` bytes at a time. Raises `DataError` for a line that is longer than a row may be.

    stream: of UTF-8. what: names the file, for messages.
    """
    most = options.most_row_bytes()
    while block := stream.read(CHUNK):
        rest = stream.readline(most + 1)
        begun = len(block) - block.rfind(b"\n") - 1
        if begun + len(rest) > most and (begun + len(rest.removesuffix(b"\n"))) > most:
            raise DataError(options.too_long(f"A line of {what}"))
        yield block + rest


# --- encodings -------------------------------------------------------------------------------------------------


def encoding(path: File, reading: Reading = AS_FOUND) -> Encoding:
    """The encoding of a file: the one named, else the one of its byte-order mark, UTF-8 where it can be, else the
    likeliest. Raises `DataError` where none is.

    path: of the file. reading: what is said of it.
    """
    return _encoding(path, store.state(path), reading.encoding)


@lru_cache(maxsize=100_000)
def _encoding(path: File, state: tuple[str, int, str], named: str | None) -> Encoding:
    """Looked at once for each state of the file: shards are opened again and again."""
    with opened(path) as stream:
        head = stream.read(4)
        for mark, name in _MARKS:
            if head.startswith(mark) and (named is None or codecs.lookup(named).name.startswith(name[:6])):
                return Encoding(name, len(mark))
        if named is not None:
            name = codecs.lookup(named).name
            return Encoding("utf-8" if name in ("ascii", "utf-8-sig") else name)
        stream.seek(0)
        far = zipped(path) or not isinstance(path, Path)
        return _looked_at(path, stream, LOOK_FAR if far else LOOK)


def _looked_at(path: File, stream: IO[bytes], most: int) -> Encoding:
    decoder, utf8, odd, size = codecs.getincrementaldecoder("utf-8")(), True, [], 0
    read = 0
    while read < most and (block := stream.read(min(_BLOCK, most - read))):
        read += len(block)
        if b"\0" in block:
            return _wide(path, block)
        if utf8:
            try:
                decoder.decode(block)
            except UnicodeDecodeError:
                utf8 = False
        if size < _SAMPLE and not block.isascii():
            lines = [line for line in block.split(b"\n") if not line.isascii()]
            odd += lines
            size += sum(map(len, lines))
        if not utf8 and size >= _SAMPLE:
            break
    if utf8 and read < most and decoder.getstate()[0]:
        utf8 = False  # it ends within a character
    if utf8 or not path.name.lower().removesuffix(".gz").endswith(_GUESSED):
        return Encoding("utf-8")
    return _narrow(path, b"\n".join(odd)[: 4 * _SAMPLE])


def _wide(path: File, block: bytes) -> Encoding:
    """UTF-16 without a mark: every other byte of ASCII is zero."""
    first, second = block[::2].count(0), block[1::2].count(0)
    name = "utf-16-be" if first > second else "utf-16-le"
    whole = block[: len(block) // 2 * 2]
    try:
        if max(first, second) > 8 * min(first, second):
            text = codecs.getincrementaldecoder(name)().decode(whole)
            if text.count("\n") > 1 or 3 * max(first, second) > len(text):
                return Encoding(name)
    except UnicodeDecodeError:
        pass
    raise DataError(
        f"{path} holds bytes that are zero, as no text does: it is something else under a wrong name, or damaged. "
        "If it is text of a rare encoding, type --encoding NAME."
    )


def _narrow(path: File, sample: bytes) -> Encoding:
    """One of the encodings whose bytes mean other characters than those of UTF-8."""
    import charset_normalizer  # here: it takes long, and most files are UTF-8

    lenient = sample.decode("utf-8", "surrogateescape")
    wrong = sum("\udc80" <= c <= "\udcff" for c in lenient)
    right = sum(c > "\x7f" for c in lenient) - wrong
    if right >= wrong > 0:
        raise DataError(
            f"{path}: {_first_wrong(path)} is not UTF-8, though other characters beyond ASCII are. Write that line "
            "again, or, if all of the file is of another encoding, type --encoding NAME (for instance cp1252)."
        )
    matches = list(charset_normalizer.from_bytes(sample, cp_isolation=list(_LIKELY)))
    if not matches:
        raise DataError(
            f"{path}: {_first_wrong(path)} is not UTF-8, and the encoding cannot be told. Type --encoding NAME, for "
            "instance cp1252, mac_roman or cp850."
        )
    best = matches[0]
    alike = [m for m in matches if (m.chaos, m.coherence) == (best.chaos, best.coherence)]
    names = [name for m in alike for name in (m.encoding, *m.could_be_from_charset)]
    name = "cp1252" if "cp1252" in names else best.encoding  # of those that fit as well, the commonest
    if name == "cp1252" and "cp1254" in names and set(sample) & _TURKISH:
        name = "cp1254"
    text = sample.decode(name, "replace")
    return Encoding(name, word=next((w for w in re.findall(r"\w+", text) if not w.isascii()), text[:20])[:40])


def _first_wrong(path: File) -> str:
    with opened(path) as stream:
        for number, line in enumerate(stream, 1):
            try:
                line.decode()
            except UnicodeDecodeError as error:
                return f"the byte {line[error.start]:#04x} in line {number:,}"
    return "a byte"
