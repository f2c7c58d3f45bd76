"""Damaged files by the hundred: `python -m tests.fuzz SEED COUNT [MODULO REST]` tries every reader on mutations.

Prints one JSON object: how many were tried, how many read after all, how many refused with a sentence, and every
failure: what else was raised, or took longer than `PATIENCE` seconds. A crash ends the process, with the case on
standard error, as each is announced there when COUNT is 1.
"""

from __future__ import annotations

import faulthandler
import gzip
import io
import json
import random
import resource
import shutil
import signal
import sys
import tarfile
import tempfile
import traceback
import warnings
import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from counterpoint.data.files.read import read
from counterpoint.data.infer import infer
from counterpoint.data.nodes import read_graph
from counterpoint.data.rows import Rows
from counterpoint.data.sets.beir import read_beir
from counterpoint.encoders import folder as model_folder
from counterpoint.encoders.query import StaticQueries
from counterpoint.encoders.static import StaticText, StaticTextConfig
from counterpoint.encoders.vectors import VectorConfig, Vectors
from counterpoint.errors import CounterpointError
from counterpoint.report.page import write as write_page
from counterpoint.search.index import Index

PATIENCE = 10
ROWS = [{"text": f"row {i} of words", "label": "ab"[i % 2], "score": i / 7} for i in range(40)]

Use = Callable[[Path], Any]


def rows(path: Path) -> None:
    """Read, find the parts of the columns, take every row."""
    found: Any = read(path, split="all", streaming=False)
    list(Rows(found, infer(found)))


def small_files(root: Path) -> list[tuple[Path, Path, Use]]:
    """A file to damage, what is then read (the file, or the folder around it), and how."""
    out: list[tuple[Path, Path, Use]] = []

    def add(name: str, data: bytes, use: Use = rows, whole: str = "") -> None:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        out.append((path, root / whole if whole else path, use))

    lines = "".join(json.dumps(r) + "\n" for r in ROWS).encode()
    separated = "text,label,score\n" + "".join(f'"{r["text"]}",{r["label"]},{r["score"]}\n' for r in ROWS)
    table, buffer = pa.Table.from_pylist(ROWS), io.BytesIO()
    add("a.jsonl", lines)
    add("b.jsonl.gz", gzip.compress(lines, mtime=0))
    add("c.json", json.dumps({"version": 1, "data": ROWS}, indent=1).encode())
    add("d.csv", separated.encode())
    add("e.tsv", separated.replace(",", "\t").encode())
    add("f.txt", b"".join(r["text"].encode() + b"\n" for r in ROWS))  # type: ignore[attr-defined]
    pq.write_table(table, buffer)
    add("g.parquet", buffer.getvalue())
    sink = io.BytesIO()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    add("h.arrow", sink.getvalue())
    add("i.fasta", b"".join(b">contig%d\n" % i + b"ACGTTGCA" * 6 + b"\n" for i in range(9)))
    add("j.fastq", b"".join(b"@read%d\nACGTACGT\n+\nIIIIIIII\n" % i for i in range(9)))
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as archive:
        for i, row in enumerate(ROWS[:6]):
            data = json.dumps(row).encode()
            member = tarfile.TarInfo(f"{i:03}.json")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    add("k.tar", tar.getvalue())
    graph = io.BytesIO()
    np.savez(graph, features=np.eye(8, dtype=np.float32), edges=np.stack([np.arange(8), np.roll(np.arange(8), 1)]))
    add("l.npz", graph.getvalue(), read_graph)
    for i in range(6):
        picture, sound = io.BytesIO(), io.BytesIO()
        Image.new("RGB", (8, 8), (40 * i, 9, 9)).save(picture, "PNG" if i % 2 else "JPEG")
        add(f"pictures/{'ab'[i % 2]}/{i}.{'png' if i % 2 else 'jpg'}", picture.getvalue(), rows, "pictures")
        with wave.open(sound, "wb") as file:
            file.setnchannels(1), file.setsampwidth(2), file.setframerate(8000)
            file.writeframes(np.arange(400, dtype="<i2").tobytes())
        add(f"sounds/{'ab'[i % 2]}/{i}.wav", sound.getvalue(), rows, "sounds")
    for name, data in {
        "corpus.jsonl": "".join(json.dumps({"_id": f"d{i}", "text": r["text"]}) + "\n" for i, r in enumerate(ROWS)),
        "queries.jsonl": "".join(json.dumps({"_id": f"q{i}", "text": "row words"}) + "\n" for i in range(4)),
        "qrels/test.tsv": "query-id\tcorpus-id\tscore\n" + "".join(f"q{i}\td{i}\t1\n" for i in range(4)),
    }.items():
        add(f"beir/{name}", data.encode(), read_beir, "beir")
    texts = [str(r["text"]) for r in ROWS]
    encoder = StaticText.from_texts(texts, StaticTextConfig(dim=8, vocabulary=60))
    model_folder.save(encoder, root / "model")
    model_folder.save(Vectors(VectorConfig(features=3, dim=4)), root / "vectors")
    Index.build(root / "index", ROWS, encoder=encoder, model=root / "model", ann=True)
    (root / "run" / "report").mkdir(parents=True)
    (root / "run" / "config.json").write_text(json.dumps({"method": "m", "why": "w"}))
    (root / "run" / "metrics.json").write_text(json.dumps({"systems": {"model": {"mrr@10": 0.5}}, "rows": 40}))
    (root / "run" / "metrics.jsonl").write_text("".join(json.dumps({"step": s, "loss": 1 / s}) + "\n" for s in (1, 2)))
    near = [{"query": "a", "hits": [{"score": 0.5, "text": "b"}]}]
    (root / "run" / "report" / "neighbours.json").write_text(json.dumps(near))
    points = {"projection": "PCA", "rows": 2, "x": [0, 1], "y": [1, 0], "text": ["a", "b"], "group": None}
    (root / "run" / "report" / "map.json").write_text(json.dumps(points))

    def encoded(folder: Path) -> None:
        found = model_folder.load(folder)
        found.encode([[1.0, 2.0, 3.0]] if found.modality == "vector" else ["row of words"])

    def asked(folder: Path) -> None:
        light = StaticQueries.read(folder)
        if light is not None:
            light.encode(["row of words"])

    def searched(folder: Path) -> None:
        Index.open(folder).search(["row 3 of words"], encoder=encoder, k=3)

    for name, use in (
        ("model", encoded),
        ("model", asked),
        ("vectors", encoded),
        ("index", searched),
        ("run", write_page),
    ):
        out += [(p, root / name, use) for p in sorted((root / name).rglob("*")) if p.is_file() and p.suffix != ".md"]
    return out


def damaged(data: bytes, draw: random.Random) -> bytes:
    """A mutation: bits flipped, cut, a stretch repeated, exchanged, put in, or nested deeply."""
    if not data:
        return b"\0"
    at, n = draw.randrange(len(data)), draw.choice((1, 2, 8, 64))
    match draw.randrange(8):
        case 0:
            return data[:at] + bytes([data[at] ^ (1 << draw.randrange(8))]) + data[at + 1 :]
        case 1:
            return data[:at]
        case 2:
            return data[:at] + draw.randbytes(n) + data[at + n :]
        case 3:
            return data[:at] + data[max(0, at - n) : at] * 3 + data[at:]
        case 4:
            return (
                data[:at]
                + draw.choice((b"\0", b"\xff", b'"', b"{", b"[", b",", b"\n", b"NaN", b"\xed\xa0\x80"))
                + data[at:]
            )
        case 5:
            return data[:at] + draw.choice((b"[", b'{"a":')) * draw.choice((900, 30_000)) + data[at:]
        case 6:
            return data[:at] + bytes(min(n, len(data) - at)) + data[at + n :]
        case _:
            digits = [i for i, b in enumerate(data) if 48 <= b <= 57] or [at]
            at = draw.choice(digits)
            return data[:at] + draw.choice((b"-1", b"99999999999999999999", b"1e999", b"null")) + data[at + 1 :]


def late(*_: Any) -> None:
    raise TimeoutError(f"more than {PATIENCE} seconds")


def main(seed: int, count: int, modulo: int = 1, rest: int = 0) -> dict[str, Any]:
    """Try ``count`` mutations, of which those whose number leaves ``rest`` are tried here."""
    faulthandler.enable()
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGALRM, late)
    counts = {"tried": 0, "read": 0, "refused": 0}
    failures = []
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        cases = small_files(root)
        for number in range(count):
            draw = random.Random(f"{seed} {number}")
            path, source, use = draw.choice(cases)
            if number % modulo != rest:
                continue
            whole = path.read_bytes()
            path.write_bytes(damaged(whole, draw))
            counts["tried"] += 1
            if len(sys.argv) > 5:
                print(number, path.relative_to(root), file=sys.stderr, flush=True)
            try:
                signal.alarm(PATIENCE)
                use(source)
                counts["read"] += 1
            except CounterpointError as error:
                counts["refused"] += 1
                if len(str(error)) < 15:
                    failures.append({"number": number, "file": str(path.relative_to(root)), "error": f"short: {error}"})
            except BaseException:
                said = traceback.format_exc().splitlines()
                where = [line.strip() for line in said if "counterpoint" in line][-1:]
                failures.append(
                    {"number": number, "file": str(path.relative_to(root)), "error": said[-1][:200], "at": where}
                )
            finally:
                signal.alarm(0)
                if path.parent.is_dir():
                    path.write_bytes(whole)
                else:  # what was asked for replaced its folder
                    shutil.copytree(source, root / "gone", dirs_exist_ok=True)
    return {**counts, "most_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024, "failures": failures}


if __name__ == "__main__":
    print(json.dumps(main(*map(int, sys.argv[1:5]))))
