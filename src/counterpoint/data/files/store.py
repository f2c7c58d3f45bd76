"""Files that lie elsewhere, as if they were paths: whatever fsspec reaches (s3://, gs://, https://, hf://)."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, Any, TypeAlias

from counterpoint.errors import DataError, MissingExtra

URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+(://|::)")
"""How an address begins. One letter before the colon is a drive, not a protocol."""

PACKAGES = {
    "s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs", "abfs": "adlfs", "abfss": "adlfs",
    "http": "aiohttp", "https": "aiohttp", "hf": "huggingface_hub", "sftp": "paramiko", "oci": "ocifs",
}  # fmt: skip
"""Protocol -> the package that speaks it."""


@dataclass(frozen=True)
class Remote:
    """A file of an fsspec file system, with as much of `pathlib.Path` as reading needs.

    url: as it is shown and remembered. path: its name within ``fs``. size: bytes, 0 where the store does not say.
    state: what changes when the file does (a digest, a time), as far as the store tells.
    """

    fs: Any
    path: str
    url: str
    size: int = 0
    state: str = ""

    def __str__(self) -> str:
        return self.url

    @cached_property
    def name(self) -> str:
        """The last part of its address."""
        return self.path.rstrip("/").rpartition("/")[2].partition("?")[0]

    @cached_property
    def parent(self) -> Path:
        """Where the file lies; only the name of the folder is used."""
        return Path(self.path).parent

    def exists(self) -> bool:
        """Whether the store has it."""
        return bool(self.fs.exists(self.path))

    def open(self, mode: str = "rb", *, scattered: bool = False) -> IO[bytes]:
        """The bytes. scattered: reads will jump (the columns of a table), so nothing is read ahead of them.

        mode: as of `open`.
        """
        found = self.fs.open(self.path, mode, cache_type="none" if scattered else "readahead")
        if hasattr(found, "getbuffer"):  # of memory://: every reader would share one position
            return io.BytesIO(found.getvalue())
        return found  # type: ignore[no-any-return]


File: TypeAlias = Path | Remote


def is_url(source: object) -> bool:
    """Whether a source is an address rather than a path.

    >>> [is_url(s) for s in ("s3://bucket/x.parquet", "simplecache::s3://b/x", "a/b.jsonl", "C:/x")]
    [True, True, False, False]
    """
    return isinstance(source, str) and URL.match(source) is not None


def expand(url: str) -> list[Remote]:
    """The files that an address means: one, those of a pattern (``*``, ``{000..127}``), or all below a folder.

    Raises `MissingExtra` for a protocol whose package is not installed, `DataError` where nothing is there.

    url: with its protocol.
    """
    return [remote for one in braces(url) for remote in _expand(one)]


def braces(pattern: str) -> list[str]:
    """Ranges of numbers spelt out, for stores that cannot list what they hold.

    pattern: with any number of ranges.

    >>> braces("s-{08..10}.tar")
    ['s-08.tar', 's-09.tar', 's-10.tar']
    """
    found = re.search(r"\{(\d+)\.\.(\d+)\}", pattern)
    if not found:
        return [pattern]
    first, last = found[1], found[2]
    numbers = [f"{i:0{len(first)}d}" for i in range(int(first), int(last) + 1)]
    return [pattern[: found.start()] + n + rest for n in numbers for rest in braces(pattern[found.end() :])]


def _expand(url: str) -> list[Remote]:
    import fsspec

    try:
        fs, path = fsspec.core.url_to_fs(url)
    except ImportError as error:
        protocol = re.findall(r"([\w+.-]+)(?:://|::)", url)[-1]  # caches are written before what they cache
        package = PACKAGES.get(protocol)
        install = f"Type: pip install {package}" if package else str(error)
        raise MissingExtra(f"{url}: reading {protocol}:// needs a package that is not installed. {install}") from error
    except ValueError as error:
        raise DataError(f"{url}: {error}. Addresses begin like s3://, gs://, https:// or file://.") from error
    try:
        web = path.startswith(("http://", "https://"))  # whose addresses may hold a question mark, and no folders
        if "*" in path or (not web and re.search(r"[?\[]", path)):
            found = fs.glob(path, detail=True)
        elif not web and fs.isdir(path):
            found = fs.find(path, detail=True)
        else:
            found = {path: fs.info(path)}
    except Exception as error:  # every store has errors of its own
        first = str(error).strip().splitlines()[0][:200] if str(error) else type(error).__name__
        raise DataError(
            f"{url} cannot be reached or is not there: {first}. Check the address and the credentials."
        ) from error
    files = [(name, info) for name, info in sorted(found.items()) if info.get("type") != "directory"]
    if not files:
        raise DataError(f"No file matches {url!r}. Check the address.")
    head = url[: len(url) - len(path)] if url.endswith(path) else None
    return [
        Remote(fs, name, url if name == path else _shown(fs, name, head), int(info.get("size") or 0), _state(info))
        for name, info in files
    ]


def _shown(fs: Any, name: str, head: str | None) -> str:
    return f"{head}{name}" if head else str(fs.unstrip_protocol(name))


def _state(info: dict[str, Any]) -> str:
    known = ("ETag", "etag", "md5", "md5Hash", "mtime", "LastModified", "last_modified", "updated", "created")
    return "|".join(str(info[k]) for k in known if info.get(k))


def size(file: File) -> int:
    """Bytes.

    file: on a disk or in a store.
    """
    return file.size if isinstance(file, Remote) else file.stat().st_size


def state(file: File) -> tuple[str, int, str]:
    """What tells one state of a file from another: where it lies, its bytes, when or what it was last."""
    if isinstance(file, Remote):
        return file.url, file.size, file.state
    found = file.stat()
    return str(file.resolve()), found.st_size, str(found.st_mtime_ns)
