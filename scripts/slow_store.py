"""What reading ahead is worth: training steps on shards in a store that takes its time for every request.

    python scripts/slow_store.py [--latency 0.05] [--step 0.1]

A file system of the local disk sleeps ``latency`` seconds per request and as long as its bytes take at ``rate``; a step
of training is a sleep of ``step`` seconds. Printed: seconds per step spent waiting for rows, when every block is
fetched when it is needed, by one thread ahead of the need, and by as many threads as the loader has.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.implementations.local import LocalFileSystem

from counterpoint.data import loader, sharding
from counterpoint.data.files.read import read
from counterpoint.data.files.readahead import Readers
from counterpoint.data.infer import infer
from counterpoint.data.stream import Stream

ROWS, SHARDS, BATCH, STEPS = 2_000, 8, 256, 50
LONG = 5_000  # bytes of which a row is made; as text, two characters each


class Slow(LocalFileSystem):
    """A local disk that answers like a store far away."""

    protocol = "slow"
    latency, rate = 0.05, 20e6

    def _open(self, path: str, mode: str = "rb", **rest: Any) -> Any:
        raw = SlowFile(path)
        return raw if rest.get("cache_type") == "none" else io.BufferedReader(raw, 5 * 2**20)  # fsspec's own size


class SlowFile(io.FileIO):
    """Every read is a request."""

    def read(self, size: int | None = -1) -> bytes:
        return self._late(super().read(-1 if size is None else size))

    def readinto(self, buffer: Any) -> int:
        found = self._late(super().read(len(buffer)))
        buffer[: len(found)] = found
        return len(found)

    def _late(self, found: bytes) -> bytes:
        time.sleep(Slow.latency + len(found) / Slow.rate)
        return found


class WhenNeeded:
    """Stands in for the readers: what is submitted is read when its result is asked for."""

    def __init__(self, threads: int) -> None: ...

    def submit(self, job: Callable[[], Any]) -> Any:
        return type("Later", (), {"result": staticmethod(job)})


def write(folder: Path, rows: int = ROWS, long: int = LONG) -> None:
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    for s in range(SHARDS):
        texts = [rng.bytes(long).hex() for _ in range(rows)]
        pq.write_table(
            pa.table({"text": texts}),
            folder / f"{s:02d}.parquet",
            row_group_size=rows // 8,
            compression="none",
            use_dictionary=False,
        )
        (folder / f"{s:02d}.jsonl").write_text("".join(json.dumps({"text": t}) + "\n" for t in texts))


def waited(pattern: str, step: float, readers: type, threads: int) -> list[float]:
    """Seconds waited for each batch but the first."""
    loader.Readers, loader.THREADS = readers, threads  # type: ignore[misc]
    data = read(pattern, streaming=True)
    batches = loader.StreamLoader(Stream(data, infer(data), buffer=2_000), BATCH)
    next(batches)
    out = []
    for _ in range(STEPS):
        time.sleep(step)
        start = time.perf_counter()
        next(batches)
        out.append(time.perf_counter() - start)
    return out


def speed(pattern: str) -> float:
    """Rows per second of an epoch, views and tokens not made."""
    data = read(pattern, streaming=True)
    batches = loader.StreamLoader(Stream(data, infer(data)), 1024)
    start = time.perf_counter()
    rows = sum(len(next(batches)) for _ in range(batches.steps_per_epoch or 0))
    return rows / (time.perf_counter() - start)


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ask.add_argument("--latency", type=float, default=0.05, help="seconds per request")
    ask.add_argument("--rate", type=float, default=20e6, help="bytes per second of one request")
    ask.add_argument("--step", type=float, default=0.1, help="seconds of a training step")
    given = ask.parse_args()
    Slow.latency, Slow.rate = given.latency, given.rate
    fsspec.register_implementation("slow", Slow, clobber=True)
    print(f"{1e3 * given.latency:g} ms and {given.rate / 1e6:g} MB/s per request, steps of {1e3 * given.step:g} ms")
    print(f"{SHARDS * ROWS:,} rows of {2 * LONG / 1e3:g} kB in {SHARDS} shards, batch {BATCH:,}, {STEPS} steps")
    print(f"{'':8} {'read':<16} {'median wait':>12} {'mean':>9} {'longest':>10}")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["COUNTERPOINT_CACHE"] = folder + "/cache"
        write(Path(folder))
        many = sharding.THREADS
        for layout in ("parquet", "jsonl"):
            for name, protocol, readers, threads in (
                ("from the disk", "file", Readers, many),
                ("when needed", "slow", WhenNeeded, 0),
                ("1 thread ahead", "slow", Readers, 1),
                (f"{many} threads ahead", "slow", Readers, many),
            ):
                found = waited(f"{protocol}://{folder}/*.{layout}", given.step, readers, threads)
                middle, mean, most = (1e3 * f(found) for f in (statistics.median, statistics.mean, max))
                print(f"{layout:8} {name:<16} {middle:9.0f} ms {mean:6.0f} ms {most:7.0f} ms", flush=True)
        print("Rows of 100 characters from the disk, by one process that does nothing else:")
        short = Path(folder) / "short"
        write(short, rows=50_000, long=50)
        for layout in ("parquet", "jsonl"):
            print(f"{layout:8} {speed(f'{short}/*.{layout}'):,.0f} rows per second", flush=True)


if __name__ == "__main__":
    main()
