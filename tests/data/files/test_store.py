"""Sources elsewhere: fsspec's in-memory store, a local web server, chained caches, and a store that answers slowly."""

from __future__ import annotations

import gzip
import http.server
import io
import json
import tarfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.local import LocalFileSystem

from counterpoint.data.files import offsets, store
from counterpoint.data.files.read import read
from counterpoint.data.infer import infer
from counterpoint.data.loader import StreamLoader
from counterpoint.data.log import Log
from counterpoint.data.stream import Stream
from counterpoint.errors import DataError, MissingExtra


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    monkeypatch.setattr(offsets, "PIECE", 200)
    monkeypatch.setattr(offsets, "BLOCK", 100)
    monkeypatch.setenv("COUNTERPOINT_CACHE", str(tmp_path_factory.mktemp("cache")))


def shards(folder: Path) -> None:
    """Two shards of 30 texts in each format."""
    for s in range(2):
        texts = [f"{s}-{i}" for i in range(30)]
        lines = "".join(json.dumps({"text": t}) + "\n" for t in texts).encode()
        pq.write_table(pa.table({"text": texts}), folder / f"{s}.parquet", row_group_size=10)
        table = pa.table({"text": texts})
        with pa.ipc.new_file(str(folder / f"{s}.arrow"), table.schema) as out:
            out.write_table(table, max_chunksize=10)
        with pa.ipc.new_stream(str(folder / f"{s}.feather"), table.schema) as out:
            out.write_table(table, max_chunksize=10)
        (folder / f"{s}.csv").write_text("text\n" + "".join(f"{t}\n" for t in texts))
        (folder / f"{s}.jsonl").write_bytes(lines)
        (folder / f"{s}.jsonl.gz").write_bytes(gzip.compress(lines))
        with tarfile.open(folder / f"{s}.tar", "w") as tar:
            for i, text in enumerate(texts):
                member = tarfile.TarInfo(f"{i:02d}.txt")
                member.size = len(text)
                tar.addfile(member, io.BytesIO(text.encode()))


LAYOUTS = ["parquet", "arrow", "feather", "jsonl", "jsonl.gz", "csv", "tar"]
EXPECTED = sorted(f"{s}-{i}" for s in range(2) for i in range(30))


def epoch(source: Any) -> list[list[str]]:
    data = read(source, streaming=True)
    loader = StreamLoader(Stream(data, infer(data)), 16)
    assert loader.steps_per_epoch == 4
    return [[row["text"] for row in next(loader)] for _ in range(4)]


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[str]:
    shards(tmp_path)
    fs = fsspec.filesystem("memory")
    for path in tmp_path.iterdir():
        fs.pipe_file(f"/bucket/part/{path.name}", path.read_bytes())
    yield "memory://bucket/part"
    fs.rm("/bucket", recursive=True)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_store_gives_the_rows_of_the_disk(memory: str, tmp_path: Path, layout: str) -> None:
    local = epoch(str(tmp_path / f"*.{layout}"))
    assert epoch(f"{memory}/*.{layout}") == local
    assert epoch([f"{memory}/0.{layout}", f"{memory}/1.{layout}"]) == local
    assert epoch(f"{memory}/{{0..1}}.{layout}") == local
    assert epoch((tmp_path / f"*.{layout}").as_uri().replace("%2A", "*")) == local
    assert epoch(f"simplecache::{memory}/*.{layout}") == local
    assert sorted(text for batch in local for text in batch) == EXPECTED


def test_a_store_is_read_whole_too(memory: str) -> None:
    assert sorted(read(f"{memory}/*.parquet")["text"]) == EXPECTED
    assert sorted(read(f"{memory}/*.jsonl.gz")["text"]) == EXPECTED
    assert len(read(f"{memory}/0.tar")) == 30


def test_a_folder_of_a_store_holds_its_data_files(memory: str) -> None:
    fs = fsspec.filesystem("memory")
    for name in ("part/0.jsonl", "part/_SUCCESS", "part/readme.md"):
        fs.pipe_file(f"/other/{name}", b'{"text": "a"}\n{"text": "b"}\n')
    assert sorted(read("memory://other")["text"]) == ["a", "b"]
    fs.rm("/other/part/0.jsonl")
    with pytest.raises(DataError, match="holds nothing that can be read"):
        read("memory://other")
    fs.rm("/other", recursive=True)


def test_a_counted_file_that_changes_is_counted_again(memory: str) -> None:
    log = Log()
    assert sum(map(len, epoch(f"{memory}/*.jsonl"))) == 60
    fsspec.filesystem("memory").pipe_file("/bucket/part/0.jsonl", b'{"text": "only"}\n')
    data = read(f"{memory}/*.jsonl", streaming=True, log=log)
    assert Stream(data, infer(data)).pieces.rows == 31
    assert log.lines() == ["Read 2 files: memory://bucket/part/0.jsonl … memory://bucket/part/1.jsonl."]


def test_what_is_not_there() -> None:
    for url in ("memory://none/x.jsonl", "memory://none/*.jsonl", "file:///none/x.parquet"):
        with pytest.raises(DataError, match="Check the address"):
            read(url)
    with pytest.raises(DataError, match=r"nonsense://.*Addresses begin like"):
        read("nonsense://x/y.jsonl")


def test_a_protocol_without_its_package_says_which(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(url: str) -> None:
        raise ImportError(f"Install something to read {url}")

    monkeypatch.setattr(fsspec.core, "url_to_fs", missing)
    for url, package in (
        ("s3://b/*.parquet", "s3fs"),
        ("gs://b/x.jsonl", "gcsfs"),
        ("simplecache::https://h/x.tar", "aiohttp"),
    ):
        with pytest.raises(MissingExtra, match=rf"reading \w+:// needs .* pip install {package}$"):
            read(url, streaming=True)
    with pytest.raises(MissingExtra, match="Install something"):
        read("odd://b/x.jsonl")


def test_a_web_server(tmp_path: Path) -> None:
    pytest.importorskip("aiohttp")
    shards(tmp_path)

    with served(tmp_path, ranges=True) as url:
        for layout in LAYOUTS:
            assert epoch(f"{url}/{{0..1}}.{layout}?token=x") == epoch(str(tmp_path / f"*.{layout}"))
        with pytest.raises(DataError, match="cannot be reached or is not there"):
            read(f"{url}/none.jsonl")
    with served(tmp_path, ranges=False) as url, pytest.raises(DataError, match="support range requests"):
        epoch(f"{url}/0.parquet")


@contextmanager
def served(folder: Path, *, ranges: bool) -> Iterator[str]:
    """The address of a web server; with ranges, one that gives parts of its files, as stores do."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None: ...

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            path = folder / self.path.strip("/").partition("?")[0]
            if not path.is_file():
                self.send_error(404)
                return
            data, asked = path.read_bytes(), self.headers.get("Range")
            size = len(data)
            if ranges and asked:
                first, _, last = asked.removeprefix("bytes=").partition("-")
                data = data[int(first) : int(last) + 1]
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {first}-{int(first) + len(data) - 1}/{size}")
            else:
                self.send_response(200)
            if ranges:
                self.send_header("Accept-Ranges", "bytes")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(data)

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


class Slow(LocalFileSystem):
    """A disk whose every opening takes as long as a request to a store."""

    protocol = "slow"
    cachable = False
    opened = 0

    def _open(self, path: str, mode: str = "rb", **rest: Any) -> Any:
        type(self).opened += 1
        time.sleep(0.02)
        return super()._open(path, mode, **rest)


def test_a_slow_store_is_read_ahead_of_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a step is taken, the lanes' next blocks are fetched, several at a time."""
    monkeypatch.setattr(offsets, "PIECE", 1)
    for s in range(8):
        texts = [f"{s}-{i}" for i in range(40)]
        pq.write_table(pa.table({"text": texts}), tmp_path / f"{s}.parquet", row_group_size=10)
    fsspec.register_implementation("slow", Slow, clobber=True)
    data = read(f"slow://{tmp_path}/*.parquet", streaming=True)
    loader = StreamLoader(Stream(data, infer(data), buffer=32), 16)
    assert loader.steps_per_epoch == 20
    next(loader)
    before, waited = Slow.opened, 0.0
    for _ in range(18):
        time.sleep(0.04)  # the training step
        start = time.perf_counter()
        next(loader)
        waited += time.perf_counter() - start
    fetched = Slow.opened - before
    assert fetched > 15
    assert waited < 0.5 * fetched * 0.02  # one after another, at the time of need, it would be all of it


def test_addresses() -> None:
    assert store.braces("a/{1..2}/{09..10}.tar") == ["a/1/09.tar", "a/1/10.tar", "a/2/09.tar", "a/2/10.tar"]
    assert store.braces("a/{x}.tar") == ["a/{x}.tar"]
    assert not store.is_url(Path("s3:/x"))
