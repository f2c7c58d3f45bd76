"""Damaged indexes: whatever is wrong in a file is a sentence with its name and what to type, never another error."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from counterpoint.errors import ConfigError, ModelError
from counterpoint.files import whole_folder
from counterpoint.search.ann import Ann
from counterpoint.search.bm25 import BM25
from counterpoint.search.hybrid import DEFAULT, Share
from counterpoint.search.index import Index
from counterpoint.search.intact import sha256
from tests.search.encoders import Counts

WORDS = ["read", "file", "parse", "date", "count", "words", "its"]
ROWS = [
    {"text": f"{a} a {b} {c}", "n": i} for i, (a, b, c) in enumerate(np.random.default_rng(0).choice(WORDS, (300, 3)))
]
QUERIES = ["parse a date", "words of a file", "zebra"]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("built") / "i"
    Index.build(folder, ROWS, encoder=Counts(WORDS), dtype="int8", rescore="float32", ann=True)
    return folder


@pytest.fixture
def folder(built: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(built, tmp_path / "i"))


def forgive(folder: Path) -> None:
    """Sizes and checksums as the files are now: what was written wrong in the first place."""
    held = json.loads((folder / "index.json").read_text())
    for name in held["files"]:
        held["files"][name] = {"bytes": (folder / name).stat().st_size, "sha256": sha256(folder / name)}
    (folder / "index.json").write_text(json.dumps(held))


def used(folder: Path) -> np.ndarray:
    return Index.open(folder).rank(QUERIES, encoder=Counts(WORDS), k=5)[1]


# --- the graph -----------------------------------------------------------------------------------------------------


def flipped(file: Path, at: int) -> None:
    data = bytearray(file.read_bytes())
    data[at] ^= 4
    file.write_bytes(bytes(data))


def test_a_damaged_graph_is_told_and_the_search_is_exact(built: Path, tmp_path: Path) -> None:
    """In a process of its own, as a damaged graph ends the process that uses it."""
    folders = {how: tmp_path / how for how in ("flipped", "cut", "missing", "foreign", "other")}
    for how, folder in folders.items():
        file = shutil.copytree(built, folder) / "ann.usearch"
        match how:
            case "flipped":
                flipped(file, file.stat().st_size // 2)
            case "cut":
                file.write_bytes(file.read_bytes()[:-100])
            case "missing":
                file.unlink()
            case "foreign":
                file.write_bytes(b"nothing that a graph begins with")
                forgive(folder)
            case "other":
                Ann(np.eye(7, dtype=np.float32), threads=1).save(file)
                forgive(folder)
    script = (
        "import sys; from counterpoint.search.index import Index; import numpy as np\n"
        "for folder in sys.argv[1:]:\n"
        "    index = Index.open(folder); q = np.eye(7, dtype=np.float32)[:3]\n"
        "    full = index.full.nearest(q, 5); found = index.nearest(q, 5, oversample=60); index.nearest(q, 2)\n"
        "    assert (full[1] == found[1]).all(), (folder, full, found)"
    )
    done = subprocess.run([sys.executable, "-c", script, *folders.values()], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    said = done.stderr
    assert said.count("All rows are compared instead, which is exact and slower") == len(folders), "each once"
    for how, fault in (("flipped", "has changed"), ("cut", "is cut short or changed"), ("missing", "is missing"),
                       ("foreign", "cannot be read"), ("other", "holds 7 vectors of width 7")):  # fmt: skip
        assert f"The index {folders[how]} is damaged: ann.usearch {fault}" in said
        assert f"counterpoint index MODEL DATA --out {folders[how]} --overwrite" in said


def test_a_whole_graph_is_used_without_a_word(folder: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        index = Index.open(folder)
        assert index.ann is not None
        used(folder)


def test_an_index_whose_graph_has_no_checksum_opens(folder: Path) -> None:
    held = json.loads((folder / "index.json").read_text())
    for of_file in held["files"].values():
        del of_file["sha256"]
    (folder / "index.json").write_text(json.dumps(held))
    assert Index.open(folder).ann is not None
    Index.open(folder).verify()


# --- other files -----------------------------------------------------------------------------------------------------


def refused(folder: Path, name: str) -> str:
    with pytest.raises(ModelError) as raised:
        used(folder)
    said = str(raised.value)
    assert name in said
    assert f"counterpoint index MODEL DATA --out {folder} --overwrite" in said
    assert len(said) < 700
    return said


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "3",
        "null",
        '"x"',
        "\x00",
        "[" * 100_000,
        '{"format": 2}',
        '{"format": {"a": 1}}',
        '{"format": NaN}',
    ],
)
def test_index_json_that_is_none(folder: Path, text: str) -> None:
    (folder / "index.json").write_text(text)
    with pytest.raises(ModelError, match=r"index\.json|has format") as raised:
        Index.open(folder)
    assert f"counterpoint index MODEL DATA --out {folder} --overwrite" in str(raised.value)
    (folder / "index.json").write_bytes(b"\xff\xfe\x00")
    refused(folder, "index.json")


@pytest.mark.parametrize(
    "key", ["rows", "dim", "dtype", "text", "bm25", "ann", "model", "files", "width", "rescore", "oversample", "hybrid"]
)
def test_a_setting_of_another_kind(folder: Path, key: str) -> None:
    good = json.loads((folder / "index.json").read_text())
    for wrong in (-1, 0, 1.5, "x", [], {}, {"a": 1}, [1], 10**30):
        if (key in ("text", "model") and wrong == "x") or (key == "oversample" and wrong == 10**30):
            continue  # a name, of no column and of no folder; a number
        (folder / "index.json").write_text(json.dumps({**good, key: wrong}))
        refused(folder, "index.json" if not (isinstance(wrong, int) and wrong > 0) else ".")
    if key not in ("text", "model", "rescore"):
        (folder / "index.json").write_text(json.dumps({**good, key: None}))
        refused(folder, key)
    if key not in ("width", "rescore", "oversample", "hybrid"):
        (folder / "index.json").write_text(json.dumps({k: v for k, v in good.items() if k != key}))
        assert f"does not say {key}" in refused(folder, key)


@pytest.mark.parametrize(
    ("key", "value", "file"),
    [
        ("text", "body", "rows.parquet has 300 rows of text, n; expected 300 with body"),
        ("rows", 299, "embeddings.npy holds int8 of shape (300, 7); expected int8 of shape (299, 7)"),
        ("dim", 6, "embeddings.npy holds int8 of shape (300, 7); expected int8 of shape (300, 6)"),
        ("dtype", "float16", "embeddings.npy holds int8 of shape (300, 7); expected float16"),
        ("rescore", "int8", "full.npy holds float32 of shape (300, 7); expected int8"),
        ("width", 6, "says dim=7, which is more than width=6"),
        ("hybrid", {"alpha": 7, "source": ""}, "index.json, at the key 'hybrid', holds"),
    ],
)
def test_settings_that_do_not_fit_the_files(folder: Path, key: str, value: object, file: str) -> None:
    held = json.loads((folder / "index.json").read_text())
    (folder / "index.json").write_text(json.dumps({**held, key: value}))
    refused(folder, file)


def array(x: np.ndarray) -> Callable[[Path], None]:
    return lambda path: np.save(path.open("wb"), x, allow_pickle=True)


WRONG: list[Callable[[Path], None]] = [
    lambda path: path.write_bytes(b""),
    lambda path: path.write_bytes(b"not an array, nor a table"),
    lambda path: path.write_bytes(path.read_bytes()[:-10]),
    lambda path: path.write_bytes(b"\x93NUMPY\x01\x00" + b"\xff" * 200),
    lambda path: np.savez(path.open("wb"), x=np.zeros(3)),
    array(np.array([{"a": 1}], dtype=object)),
    array(np.zeros((0, 7), np.float32)),
    array(np.zeros(300, np.int8)),
    array(np.full((300, 7), "x")),
]


@pytest.mark.parametrize("wrong", range(len(WRONG)))
@pytest.mark.parametrize(
    "name",
    ["embeddings.npy", "ranges.npy", "full.npy", "rows.parquet", "probe.npy", "bm25/data.npy", "bm25/indices.npy",
     "bm25/indptr.npy", "bm25/bm25.json"],
)  # fmt: skip
def test_files_of_another_kind(folder: Path, name: str, wrong: int) -> None:
    WRONG[wrong](folder / name)
    refused(folder, name)
    forgive(folder)
    refused(folder, "bm25" if name.startswith("bm25") else name)


@pytest.mark.parametrize(
    "change",
    [
        {"tokenizer": "subword"}, {"tokenizer": 3}, {"tokenizer": ["words"]}, {"vocabulary": {}}, {"vocabulary": "abc"},
        {"vocabulary": [1, 2]}, {"vocabulary": ["a"]}, {"documents": "300"}, {"documents": 0}, {"documents": 299},
        {"documents": 10**12}, {"k1": None}, {"k1": "x"}, {"b": []},
    ],
)  # fmt: skip
def test_bm25_json_with_other_contents(folder: Path, change: dict[str, object]) -> None:
    file = folder / "bm25" / "bm25.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    forgive(folder)
    refused(folder, "bm25")


def test_bm25_json_that_lacks_a_key_or_repeats_a_word(folder: Path) -> None:
    file = folder / "bm25" / "bm25.json"
    good = json.loads(file.read_text())
    for key in good:
        file.write_text(json.dumps({k: v for k, v in good.items() if k != key}))
        forgive(folder)
        refused(folder, "bm25.json")
    file.write_text(json.dumps({**good, "vocabulary": [good["vocabulary"][0]] * len(good["vocabulary"])}))
    forgive(folder)
    refused(folder, "bm25")


@pytest.mark.parametrize("value", [-1, 300, 2**31 - 1])
def test_numbers_of_documents_that_there_are_not(folder: Path, value: int) -> None:
    """They would be written to, beyond the memory of the scores."""
    file = folder / "bm25" / "indices.npy"
    x = np.load(file)
    x[:] = value
    np.save(file, x)
    refused(folder, "bm25")


def test_weights_and_beginnings_that_cannot_be(folder: Path) -> None:
    for name, change in (("data", np.nan), ("indptr", 10**6)):
        file = folder / "bm25" / f"{name}.npy"
        good = file.read_bytes()
        x = np.load(file)
        x[3:9] = change
        np.save(file, x)
        refused(folder, "bm25")
        file.write_bytes(good)
    used(folder)


def test_rows_that_were_changed(folder: Path) -> None:
    flipped(folder / "rows.parquet", 900)
    assert "rows.parquet has changed" in refused(folder, "rows.parquet")
    pq.write_table(pa.table({"text": ["a"]}), folder / "rows.parquet")
    forgive(folder)
    assert "rows.parquet has 1 rows of text; expected 300" in refused(folder, "rows.parquet")


def test_a_damaged_index_is_replaced_by_what_is_told(folder: Path) -> None:
    (folder / "index.json").write_text("{")
    Index.build(folder, ROWS, encoder=Counts(WORDS), overwrite=True).verify()


# --- the share of a hybrid -------------------------------------------------------------------------------------------


def test_the_share_is_kept_and_used(folder: Path) -> None:
    index, encoder = Index.open(folder), Counts(WORDS)
    assert index.share == DEFAULT
    share = Share(1.0, "learned on 40 pairs", {"metric": "ndcg@10"})
    index.keep_share(share)
    again = Index.open(folder)
    again.verify()
    assert again.share == share
    for one in (index, again):
        hybrid, dense = (one.rank(QUERIES[:2], encoder=encoder, k=5, mode=mode)[1] for mode in ("hybrid", "dense"))
        np.testing.assert_array_equal(hybrid, dense)
        words = one.rank(QUERIES[:2], encoder=encoder, k=5, alpha=0)[1]
        np.testing.assert_array_equal(words, one.rank(QUERIES[:2], k=5, mode="bm25")[1])
    assert Index.build(folder, ROWS, encoder=encoder, overwrite=True, share=share).share == share
    with pytest.raises(ConfigError, match="alpha is 3"):
        again.rank(QUERIES, encoder=encoder, alpha=3)


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8", "binary"])
@pytest.mark.parametrize("rescore", ["none", "float32"])
@pytest.mark.parametrize("dim", [None, 5])
def test_a_sum_is_that_of_both_scores_however_short_the_lists(tmp_path: Path, dtype, rescore, dim) -> None:
    encoder = Counts(WORDS)
    index = Index.build(tmp_path / "i", ROWS, encoder=encoder, dtype=dtype, rescore=rescore, dim=dim)
    asked = QUERIES[:2]
    embedded = encoder.encode(asked, role="query", normalize=True)
    cosines, ids = index.nearest(embedded, 300, oversample=1)
    dense = np.take_along_axis(cosines, np.argsort(ids, axis=1), axis=1).astype(float)
    words = index.bm25.scores(asked)
    mean = dense.mean(axis=1, keepdims=True)
    dense = (dense - mean) / (dense.max(axis=1, keepdims=True) - mean)
    for alpha in (0.3, 0.8):
        total = alpha * dense + (1 - alpha) * words / words.max(axis=1, keepdims=True)
        scores, found = index.rank(asked, encoder=encoder, k=4, alpha=alpha, depth=6, oversample=50)
        np.testing.assert_allclose(scores, np.take_along_axis(total, found, axis=1), atol=2e-3)


def test_the_lone_row_with_the_word_is_first_at_every_share_that_words_have(tmp_path: Path) -> None:
    rows = [*ROWS[:5], {"text": "zx81 its", "n": 9}]
    index = Index.build(tmp_path / "i", rows, encoder=Counts(WORDS))
    assert index.search(["zx81"], encoder=Counts(WORDS), k=6, alpha=0)[0][0].id == 5
    hits = index.search(["zx81"], encoder=Counts(WORDS), k=6, alpha=0.3)[0]
    assert hits[0].id == 5
    assert hits[0].score >= 0.7
    assert max(h.score for h in hits[1:]) < hits[0].score


# --- several writers --------------------------------------------------------------------------------------------------


def at_once(*work: Callable[[], object]) -> list[BaseException]:
    failed: list[BaseException] = []

    def run(one: Callable[[], object]) -> None:
        try:
            one()
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=run, args=(one,)) for one in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return failed


def test_indexes_written_at_once_do_not_mix(tmp_path: Path) -> None:
    """Each is whole in its turn, the last one stands, and nothing is left beside it."""

    def build(n: int) -> Callable[[], object]:
        rows, vectors = [{"n": n}] * n, np.full((n, 3), n, np.float32)
        # The former test of the folder is not what is tested: none of these is in the way of another.
        return lambda: [
            Index.build(tmp_path / "i", rows, embeddings=vectors, text=None, overwrite=True) for _ in range(5)
        ]

    Index.build(tmp_path / "i", [{"n": 1}], embeddings=np.ones((1, 3)), text=None)
    failed = at_once(*(build(n) for n in (2, 3, 4)))
    # Whoever opens its index while another one moves in may find none: nothing worse.
    assert all(isinstance(f, ModelError) for f in failed), failed
    index = Index.open(tmp_path / "i")
    index.verify()
    assert set(index.rows["n"].to_pylist()) == {len(index)}
    assert [p.name for p in tmp_path.iterdir()] == ["i"]


def test_folders_moved_at_once_are_each_whole(tmp_path: Path) -> None:
    def move(name: str) -> Callable[[], object]:
        def work() -> None:
            for i in range(40):
                new = tmp_path / f"{name}{i}"
                new.mkdir()
                for part in "abc":
                    (new / part).write_text(new.name)
                whole_folder(tmp_path / "target", new)

        return work

    assert at_once(move("x"), move("y"), move("z")) == []
    assert len({(tmp_path / "target" / part).read_text() for part in "abc"}) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["target"]


def test_words_written_at_once_do_not_mix(tmp_path: Path) -> None:
    few, many = BM25(["a b", "b c"]), BM25([f"w{i} v{i}" for i in range(50)])
    assert at_once(*(lambda one=one: [one.save(tmp_path / "w") for _ in range(20)] for one in (few, many))) == []
    again = BM25.load(tmp_path / "w")
    assert again.search(["b"] if len(again) == 2 else ["v7"], 1)[1].tolist() == [[0 if len(again) == 2 else 7]]
    assert [p.name for p in tmp_path.iterdir()] == ["w"]
    (tmp_path / "w" / "letter").write_text("dear")
    with pytest.raises(ModelError, match="holds other things than a BM25 index"):
        few.save(tmp_path / "w")
