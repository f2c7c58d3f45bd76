"""Bulk encoding: one function for every engine; jobs that are killed and continued; what is refused."""

from __future__ import annotations

import io
import json
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from counterpoint.encoders import folder as model_folder
from counterpoint.encoders.image import ConvNet, ConvNetConfig
from counterpoint.encoders.static import StaticText, StaticTextConfig
from counterpoint.errors import ConfigError, DataError
from counterpoint.workflow.bulk.embed import Embed, fingerprint
from counterpoint.workflow.bulk.encode import blocks, encode_files, encode_unit
from counterpoint.workflow.bulk.units import Unit, find
from counterpoint.workflow.models import load
from tests.workflow import made
from tests.workflow.conftest import Run, Said

DIM = 8


def text_model(path: Path, *, std: float = 1.0, **more: Any) -> Path:
    texts = [row["text"] for row in made.rows("texts", 60)]
    model_folder.save(StaticText.from_texts(texts, StaticTextConfig(dim=DIM, vocabulary=300, std=std), **more), path)
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return text_model(tmp_path_factory.mktemp("bulk") / "model")


def write(path: Path, n: int, *, first: int = 0, groups: int = 10, **columns: Any) -> Path:
    """Rows with the column ``id`` = first, first + 1, ... and a text."""
    path.parent.mkdir(parents=True, exist_ok=True)
    texts = [row["text"] for row in made.rows("texts", max(n, 1), seed=first)][:n]
    held = {"id": pa.array(range(first, first + n), pa.int64()), "text": pa.array(texts, pa.string()), **columns}
    pq.write_table(pa.table(held), path, row_group_size=groups)
    return path


def result(out: Path) -> pa.Table:
    """All rows that a job wrote, as any reader of parquet folders sees them."""
    return pq.read_table(out)


def vectors(table: pa.Table) -> np.ndarray:
    width = table.schema.field("embedding").type.list_size
    return np.array(table["embedding"].combine_chunks().flatten(), dtype=np.float32).reshape(len(table), width)


def whole(out: Path, model: Path, ids: list[int]) -> None:
    """Every row once, in order within its unit, each with the embedding of its own text; nothing left aside."""
    assert sorted(result(out)["id"].to_pylist()) == ids
    for part in out.glob("part-*"):
        table = pq.read_table(part)
        assert table["id"].to_pylist() == sorted(table["id"].to_pylist())
        np.testing.assert_allclose(vectors(table), load(model).encode(table["text"].to_pylist()), atol=1e-6)
    assert not [p.name for p in out.iterdir() if p.name.startswith(".")]


# --- the function ----------------------------------------------------------------------------------------------


def test_a_row_for_every_row(model: Path) -> None:
    """Nulls have no embedding, blanks that of an empty text, all else that of `encode`; types and order stay."""
    table = pa.table({"text": ["a rose", None, " ", "a boat", ""], "id": pa.array(range(5), pa.int16())})
    for batch in (None, 1, 2, 5):
        embed = Embed(model, column="text", batch=batch)
        found = embed(table)
        assert found.schema.names == ["text", "id", "embedding"]
        assert found.schema.field("embedding").type == pa.list_(pa.float32(), DIM)
        assert found.select(["text", "id"]).equals(table)
        assert found["embedding"].is_valid().to_pylist() == [True, False, True, True, True]
        expected = load(model).encode(["a rose", " ", "a boat", ""])
        np.testing.assert_allclose(np.array(found["embedding"].drop_null().to_pylist()), expected, atol=1e-6)
        assert (embed.missing, embed.blank) == (1, 2)
        assert found.equals(embed(table.to_batches()[0]))
    assert embed(table.slice(0, 0)).schema == found.schema


def test_dictionary_columns_and_large_texts_are_texts(model: Path) -> None:
    texts = pa.array(["a rose", "a boat", "a rose"])
    expected = Embed(model, column="text")(pa.table({"text": texts}))["embedding"]
    for type_ in (pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())):
        assert Embed(model, column="text")(pa.table({"text": texts.cast(type_)}))["embedding"].equals(expected)


def test_it_travels_without_its_weights(model: Path) -> None:
    embed = Embed(model, column="text", keep=["id"])
    table = pa.table({"text": ["a rose", None], "id": [1, 2]})
    here = embed(table)
    sent = pickle.dumps(embed)
    assert len(sent) < 1000
    there = pickle.loads(sent)
    assert (there.missing, embed.missing) == (0, 1)
    assert there(table).equals(here)
    assert here.column_names == ["id", "embedding"]


def test_the_first_dimensions_are_unit_vectors_again(model: Path) -> None:
    table = pa.table({"text": ["a rose", "a boat and the tide"]})
    all_, first = (vectors(Embed(model, column="text", truncate=k)(table)) for k in (None, 3))
    np.testing.assert_allclose(first, all_[:, :3] / np.linalg.norm(all_[:, :3], axis=1, keepdims=True), rtol=1e-5)
    with pytest.raises(ConfigError, match="are 8 wide; give a number from 1 to 8"):
        Embed(model, column="text", truncate=9)(table)


def test_images(tmp_path: Path) -> None:
    model_folder.save(ConvNet(ConvNetConfig()), tmp_path / "model")
    rng = np.random.default_rng(0)
    pictures = [made.picture(rng, topic) for topic in made.TOPICS]
    files = []
    for picture in pictures:
        file = io.BytesIO()
        picture.save(file, "PNG")
        files.append(file.getvalue())
    cells = [{"bytes": files[0], "path": None}, None, {"bytes": b"no image", "path": None}, {"bytes": None, "path": ""}]
    embed = Embed(tmp_path / "model", column="image", batch=2)
    found = embed(pa.table({"image": [*cells, *({"bytes": f, "path": None} for f in files[1:])]}))["embedding"]
    assert found.is_valid().to_pylist() == [True, False, False, False, True, True]
    assert embed.missing == 3
    expected = load(tmp_path / "model").encode(pictures)
    np.testing.assert_allclose(np.array(found.drop_null().to_pylist()), expected, atol=1e-5)
    assert Embed(tmp_path / "model", column="image")(pa.table({"image": files}))["embedding"].null_count == 0
    with pytest.raises(DataError, match="Column 'image' holds no image"):
        embed(pa.table({"image": ["x.png"]}))


def test_spark(model: Path) -> None:
    """What `mapInArrow` needs: a function from batches to batches, and the schema of what comes back."""
    embed = Embed(model, column="text")
    table = pa.table({"a`b": pa.array([1, 2, 3], pa.int64()), "text": ["a rose", None, "a boat"]})
    batches = list(pickle.loads(pickle.dumps(embed.partition))(iter(table.to_batches(max_chunksize=2))))
    assert all(isinstance(batch, pa.RecordBatch) for batch in batches)
    found = pa.Table.from_batches(batches)
    assert found.schema.field("embedding").type == pa.list_(pa.float32())
    assert found.set_column(2, "embedding", embed(table)["embedding"]).equals(embed(table))
    assert found["embedding"].to_pylist() == embed(table)["embedding"].to_pylist()
    dtypes = [("a`b", "bigint"), ("text", "string")]
    assert embed.ddl(dtypes) == "`a``b` bigint, `text` string, `embedding` array<float>"
    assert Embed(model, column="text", keep=[]).ddl(dtypes) == "`embedding` array<float>"
    with pytest.raises(DataError, match="There is no column 'body'; the columns are a`b, text"):
        Embed(model, column="body").ddl(dtypes)


def test_a_fingerprint_is_of_the_content(model: Path, tmp_path: Path) -> None:
    import shutil

    copy = Path(shutil.copytree(model, tmp_path / "copy"))
    (copy / "README.md").write_text("another card")
    assert fingerprint(copy) == fingerprint(model)
    weights = bytearray((copy / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (copy / "model.safetensors").write_bytes(weights)
    assert fingerprint(copy) != fingerprint(model)


# --- units -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 3, 7, 100])
def test_a_unit_is_its_rows_whatever_the_row_groups(tmp_path: Path, size: int) -> None:
    path = write(tmp_path / "x.parquet", 29, groups=10)
    with pq.ParquetFile(path) as rows:
        for start, stop in [(0, 29), (0, 10), (5, 6), (9, 11), (10, 20), (12, 28), (28, 29), (20, 20)]:
            found = [b["id"].to_pylist() for b in blocks(rows, Unit(str(path), start, stop, ""), ["id"], size)]
            assert [i for ids in found for i in ids] == list(range(start, stop))
            assert all(0 < len(ids) <= size for ids in found)
        with pytest.raises(DataError, match="only 29 rows now"):
            list(blocks(rows, Unit(str(path), 20, 30, ""), ["id"], size))


def local(model: Path, sources: list[Path], out: Path, **more: Any) -> Any:
    embed = Embed(model, column="text", batch=4)
    return encode_files(embed, find([str(s) for s in sources], out=str(out)), str(out), unit_rows=10, **more)


def test_units_are_files_of_the_output(model: Path, tmp_path: Path) -> None:
    write(tmp_path / "in/a.parquet", 25)
    write(tmp_path / "in/b/empty.parquet", 0)
    write(tmp_path / "in/c.parquet", 7, first=25)
    write(tmp_path / "in/_hidden.parquet", 3)
    out = tmp_path / "out"
    did = local(model, [tmp_path / "in"], out)
    whole(out, model, list(range(32)))
    assert {p.name: len(pq.read_table(p)) for p in out.glob("part-*")} == {
        "part-00000-00000.parquet": 10,
        "part-00000-00001.parquet": 10,
        "part-00000-00002.parquet": 5,
        "part-00001-00000.parquet": 0,
        "part-00002-00000.parquet": 7,
    }
    assert (did.units, did.before, did.rows, did.left, did.failed) == (5, 0, 32, 0, {})
    times = {p: p.stat().st_mtime_ns for p in out.glob("part-*")}
    (out / "part-00000-00001.parquet").unlink()
    (out / ".part-00000-00001.parquet.ab12").write_bytes(b"PAR1 half")
    did = local(model, [tmp_path / "in"], out)
    assert (did.before, did.rows, did.left) == (4, 10, 0)
    whole(out, model, list(range(32)))
    assert [p.name for p, t in times.items() if p.stat().st_mtime_ns != t] == ["part-00000-00001.parquet"]


def test_a_unit_whose_workers_die_is_given_up(model: Path, tmp_path: Path) -> None:
    """A worker that dies leaves the note that it began; the third note ends it, and the other units are done."""
    data, out = write(tmp_path / "a.parquet", 25), tmp_path / "out"
    local(model, [data], out)
    for part in out.glob("part-*"):
        part.unlink()
    embed = Embed(model, column="text")
    for died in range(4):
        found = encode_unit(embed, str(out), Unit(str(data), 10, 20, "part-00000-00001.parquet"))
        assert bool(found["error"]) == (died == 3)
        if died < 3:
            (out / "part-00000-00001.parquet").rename(out / f".part-00000-00001.parquet.{died}.begun")
    assert "rows 10 to 20: 3 workers died while they encoded it" in found["error"]
    did = local(model, [data], out)
    assert (did.rows, did.left, did.failed) == (25, 0, {}), "the next job tries again"
    whole(out, model, list(range(25)))


def test_files_in_any_store(model: Path, tmp_path: Path) -> None:
    import fsspec

    store = fsspec.filesystem("memory")
    with store.open("/bulk/in/a.parquet", "wb") as file:
        file.write(write(tmp_path / "a.parquet", 25).read_bytes())
    embed = Embed(model, column="text")
    for rows in (25, 0):
        out = "memory://bulk/out"
        did = encode_files(embed, find(["memory://bulk/in/*.parquet"], out=out), out, unit_rows=10)
        assert (did.rows, did.units, did.left) == (rows, 3, 0)
    assert len(store.ls("/bulk/out")) == 4
    with store.open("/bulk/out/part-00000-00002.parquet") as file:
        assert pq.read_table(file)["id"].to_pylist() == [20, 21, 22, 23, 24]
    with pytest.raises(DataError, match=r"nowhere://x cannot be reached: Protocol not known"):
        find(["nowhere://x"], out=out)


# --- what is refused, on the command line ----------------------------------------------------------------------


def refused(said: Said, *sentences: str) -> None:
    assert said.code == 2, said.all
    assert "Traceback" not in said.all
    for sentence in sentences:
        assert sentence in said.all, said.all


def test_a_folder_holds_one_job(run: Run, model: Path, tmp_path: Path) -> None:
    data, out = write(tmp_path / "in/a.parquet", 5), tmp_path / "out"
    words = ["encode", model, tmp_path / "in", "--out", out]
    said = run(*words)
    assert said.code == 0, said.all
    assert "5 embeddings of width 8" in said.out
    assert "rows/s" in said.out
    said = run(*words)
    assert said.code == 0, said.all
    assert "1 of 1 units were done before" in said.out
    refused(run(*words, "--precision", "bfloat16"), "precision was float32 and is bfloat16", "--overwrite")
    other = text_model(tmp_path / "other", std=2.0)
    refused(run("encode", other, *words[2:]), "of another model", "Add --overwrite to replace them")
    write(tmp_path / "in/b.parquet", 5, first=5)
    refused(run(*words), "of other inputs", "b.parquet is new")
    (tmp_path / "in/b.parquet").unlink()
    write(data, 6)
    refused(run(*words), "a.parquet has changed since part-00000-*.parquet was written")
    data.unlink()
    write(tmp_path / "in/c.parquet", 4)
    refused(run(*words), "c.parquet is new")
    (tmp_path / "in/bad.parquet").write_bytes(b"PAR1")
    only = ["encode", model, tmp_path / "in/bad.parquet", "--out", out, "--overwrite"]
    refused(run(*only), "No input can be read")
    (tmp_path / "in/bad.parquet").unlink()
    assert result(out)["id"].to_pylist() == [0, 1, 2, 3, 4]
    assert run("encode", other, tmp_path / "in", "--out", out, "--overwrite", "--keep", "id").code == 0
    found = result(out)
    assert found.column_names == ["id", "embedding"]
    assert found["id"].to_pylist() == [0, 1, 2, 3]
    (out / "_config.json").write_text("{")
    refused(run(*words), "_config.json is damaged or of another version. Add --overwrite")


def test_a_damaged_file_among_good_ones(run: Run, model: Path, tmp_path: Path) -> None:
    """Named, counted, the others done; repaired or left out, the same command does the rest."""
    for number in range(3):
        write(tmp_path / f"in/{number}.parquet", 10, first=10 * number)
    bad, good = tmp_path / "in/1.parquet", (tmp_path / "in/1.parquet").read_bytes()
    bad.write_bytes(good[:-20])  # without its footer
    late = tmp_path / "in/2.parquet"
    intact = late.read_bytes()
    late.write_bytes(intact[:4] + bytes(len(intact) // 3) + intact[4 + len(intact) // 3 :])  # its pages are zeros
    out = tmp_path / "out"
    words = ["encode", model, tmp_path / "in", "--out", out]
    said = run(*words)
    refused(said, "2 of 3 files could not be encoded whole; 1 of 2 units are done", str(bad), str(late))
    assert "type the same command again" in said.all
    assert result(out)["id"].to_pylist() == list(range(10))
    assert not list(out.glob(".*"))
    done = (out / "part-00000-00000.parquet").stat().st_mtime_ns
    late.write_bytes(intact)
    refused(run(*words), "1 of 3 files", str(bad))
    bad.unlink()
    assert run(*words).code == 0
    assert result(out)["id"].to_pylist() == [*range(10), *range(20, 30)]
    bad.write_bytes(good)
    assert run(*words).code == 0
    whole(out, model, list(range(30)))
    assert (out / "part-00000-00000.parquet").stat().st_mtime_ns == done


def test_what_cannot_be_encoded(run: Run, model: Path, tmp_path: Path) -> None:
    data, out = write(tmp_path / "in/a.parquet", 5, title=pa.array(["x"] * 5)), tmp_path / "out"
    jsonl = made.jsonl(tmp_path / "x.jsonl", made.rows("texts", 5))
    none = write(tmp_path / "none/a.parquet", 0)
    already = write(tmp_path / "already.parquet", 2, embedding=pa.array([0.0, 1.0]))
    (tmp_path / "broken.parquet").write_bytes(b"PAR1")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").write_text("keep me")
    encode = ["encode", model]
    refused(run("encode", tmp_path / "nothing", data, "--out", out), "There is no model folder")
    refused(run(*encode, data, "--out", out, "--column", "body"), "There is no column 'body'; the rows have id")
    refused(run(*encode, data, "--out", out, "--column", "id"), "Column 'id' holds no text")
    refused(run(*encode, data, "--out", out, "--keep", "ID"), "There is no column 'ID'; the columns are id")
    refused(run(*encode, tmp_path / "nowhere", "--out", out), "There is no file or folder")
    refused(run(*encode, tmp_path / "*.pq", "--out", out), "No file matches")
    refused(run(*encode, jsonl, "--out", out), "is no parquet file", "end --out with .parquet or .npy")
    refused(run(*encode, none, "--out", out), "The inputs hold no rows")
    refused(run(*encode, already, "--out", out), "have a column 'embedding' already", "--keep")
    refused(run(*encode, tmp_path / "broken.parquet", "--out", out), "No input can be read")
    refused(run(*encode, tmp_path / "in", "--out", tmp_path / "in"), "lies among the inputs")
    refused(run(*encode, tmp_path / "in", "--out", tmp_path / "in/vectors"), "lies among the inputs")
    refused(run(*encode, tmp_path / "**/*.parquet", "--out", out), "lies among the inputs")
    refused(run(*encode, data, "--out", tmp_path / "in"), "holds the input")
    refused(run(*encode, data, "--out", tmp_path / "mine"), "holds other things", "notes.txt")
    refused(run(*encode, data, "--out", tmp_path / "mine", "--overwrite"), "holds other things")
    refused(run(*encode, data, "--out", out, "--split", "test"), "--split does not go with a folder")
    refused(run(*encode, data, "--out", out, "--workers", "2"), "--workers and --gpus-per-worker are of --engine ray")
    refused(run(*encode, data, "--out", tmp_path / "v.npy", "--engine", "ray"), "is one file")
    refused(run(*encode, data, "--out", out, "--engine", "ray", "--workers", "0"), "--workers 0: give 1 or more")
    refused(run(*encode, data, "--out", out, "--batch", "0"), "at least one row is encoded at once")
    assert not out.exists()
    assert run(*encode, already, "--out", out, "--keep", "id").code == 0


def test_without_ray(run: Run, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    data = write(tmp_path / "a.parquet", 5)
    refused(run("encode", model, data, "--out", tmp_path / "out", "--engine", "ray"), "pip install 'counterpoint[ray]'")


# --- Ray -------------------------------------------------------------------------------------------------------


class Slow(Embed):
    """Takes its time, and leaves a note of every batch that it begins and ends: ``PROCESS-FIRST_ID.begun``."""

    notes: Path
    seconds = 0.3

    def __call__(self, rows: pa.Table | pa.RecordBatch) -> pa.Table:
        name = f"{os.getpid()}-{rows['id'][0].as_py()}"
        (self.notes / f"{name}.begun").touch()
        time.sleep(self.seconds)
        out = super().__call__(rows)
        (self.notes / f"{name}.ended").touch()
        return out


def slow(model: Path, notes: Path) -> Slow:
    embed = Slow(model, column="text", keep=["id", "text"])
    embed.notes = notes
    notes.mkdir(exist_ok=True)
    return embed


def wait_for(what: Any, seconds: float = 90.0) -> Any:
    end = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)
    return found


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.fixture(scope="module")
def ray() -> Iterator[Any]:
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray = pytest.importorskip("ray", reason="ray is not installed")
    pytest.importorskip("ray.data", reason="ray[data] is not installed")
    ray.init(
        address="local",
        num_cpus=2,
        include_dashboard=False,
        object_store_memory=100 * 2**20,
        log_to_driver=False,
        logging_level="ERROR",
    )
    yield ray
    ray.shutdown()


@pytest.mark.slow
def test_a_killed_actor_loses_nothing(ray: Any, model: Path, tmp_path: Path) -> None:
    for number in range(8):
        write(tmp_path / f"in/{number}.parquet", 10, first=10 * number)
    out, notes = tmp_path / "out", tmp_path / "notes"
    embed = slow(model, notes)
    killed: list[str] = []

    def kill() -> None:
        """The first process that is at work after something has been done."""
        wait_for(lambda: list(notes.glob("*.ended")))
        begun = wait_for(lambda: [p.stem for p in notes.glob("*.begun") if not p.with_suffix(".ended").exists()])
        os.kill(int(begun[0].split("-")[0]), signal.SIGKILL)
        killed.append(begun[0])

    killer = threading.Thread(target=kill)
    killer.start()
    did = encode_files(embed, find([str(tmp_path / "in")], out=str(out)), str(out), engine="ray", workers=2)
    killer.join()
    assert killed
    assert not (notes / f"{killed[0]}.ended").exists(), "it was not killed at work"
    assert (did.rows, did.left, did.failed) == (80, 0, {})
    whole(out, model, list(range(80)))
    begun = Counter(int(p.stem.split("-")[1]) for p in notes.glob("*.begun"))
    assert begun[int(killed[0].split("-")[1])] == 2, "the killed unit is done once more"
    assert sum(begun.values()) == 9, "and no other"
    assert len({p.stem.split("-")[0] for p in notes.glob("*.begun")}) >= 2


@pytest.fixture
def killed(ray: Any, model: Path, tmp_path: Path) -> tuple[Path, dict[Path, int]]:
    """A job that was killed with its process: its folder, and when each of its units was done."""
    for number in range(3):
        write(tmp_path / f"in/{number}.parquet", 20, first=20 * number)
    out, notes = tmp_path / "out", tmp_path / "notes"
    slow(model, notes)
    script = (
        "import sys; from pathlib import Path; from tests.workflow.bulk.test_run import *\n"
        "model, data, out, notes = map(Path, sys.argv[1:])\n"
        "encode_files(slow(model, notes), find([str(data)], out=str(out)), str(out), engine='ray', workers=1,\n"
        "             unit_rows=5)\n"
    )
    words = [sys.executable, "-c", script, *map(str, (model, tmp_path / "in", out, notes))]
    job = subprocess.Popen(words, cwd=Path(__file__).parents[3], start_new_session=True)
    try:
        wait_for(lambda: len(list(out.glob("part-*"))) >= 3 or job.poll() is not None)
        assert job.poll() is None, "the job ended before it could be killed"
        job.kill()
        pids = {int(p.stem.split("-")[0]) for p in notes.glob("*.begun")}
        wait_for(lambda: not any(alive(pid) for pid in pids), 30)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(job.pid, signal.SIGKILL)  # what Ray started for the job: it would end by itself, but later
        job.wait()
    return out, {p: p.stat().st_mtime_ns for p in out.glob("part-*")}


@pytest.mark.slow
def test_a_killed_job_continues(killed: tuple[Path, dict[Path, int]], run: Run, model: Path, tmp_path: Path) -> None:
    out, done = killed
    assert 3 <= len(done) < 12
    assert all(len(pq.read_table(p)) == 5 for p in done)
    words = ("--keep", "id", "text", "--engine", "ray", "--workers", 1)
    said = run("encode", model, tmp_path / "in", "--out", out, *words)
    assert said.code == 0, said.all
    assert f"{len(done)} of 12 units were done before" in said.out
    assert f"{60 - 5 * len(done)} embeddings" in said.out
    whole(out, model, list(range(60)))
    assert all(p.stat().st_mtime_ns == t for p, t in done.items())
    assert len(list(out.glob("part-*"))) == 12
    assert json.loads((out / "_config.json").read_text())["unit_rows"] == 5
