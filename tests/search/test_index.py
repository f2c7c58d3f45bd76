import json

import numpy as np
import pyarrow as pa
import pytest
import torch

from counterpoint.errors import ConfigError, DataError, ModelError
from counterpoint.search.index import Index
from tests.search.encoders import Counts

ROWS = [
    {"text": "read a file", "file": "io.py", "line": 3},
    {"text": "parse a date", "file": "time.py", "line": 10},
    {"text": "count words of a file", "file": "text.py", "line": 7},
]


@pytest.fixture
def encoder():
    return Counts(["read", "file", "parse", "date", "count", "words", "its"])


def test_round_trip_and_order(tmp_path, encoder):
    Index.build(tmp_path / "i", ROWS, encoder=encoder)
    index = Index.open(tmp_path / "i")
    index.verify()
    hits = index.search(["date", "file"], encoder=encoder, k=2, mode="dense")
    assert [h.row["file"] for h in hits[0]][:1] == ["time.py"]
    assert hits[0][0].score == pytest.approx(2**-0.5)
    assert [(h.row["line"], h.rank, h.id) for h in hits[1]] == [(3, 1, 0), (7, 2, 2)]
    assert hits[1][1].score == pytest.approx(3**-0.5)
    assert hits[0][0].row == ROWS[1]


def test_bm25_and_hybrid(tmp_path, encoder):
    index = Index.build(tmp_path / "i", ROWS, encoder=encoder)
    assert [h.id for h in index.search(["a date"], mode="bm25", k=9)[0]] == [1, 0, 2]
    assert index.search(["zebra"], mode="bm25")[0] == []
    hybrid = index.search(["words file"], encoder=encoder, k=9)[0]
    assert hybrid[0].id == 2
    assert hybrid[0].score == pytest.approx(1.0)
    assert [h.rank for h in hybrid] == [1, 2, 3]


@pytest.mark.parametrize("dtype", ["float16", "int8"])
@pytest.mark.parametrize("ann", [False, True])
def test_smaller_types_and_the_graph_keep_the_order(tmp_path, encoder, dtype, ann):
    g = np.random.default_rng(0)
    vectors = g.standard_normal((200, 16)).astype(np.float32)
    index = Index.build(
        tmp_path / "i", [{"n": i} for i in range(200)], embeddings=vectors, text=None, dtype=dtype, ann=ann
    )
    queries = vectors[:20] / np.linalg.norm(vectors[:20], axis=1, keepdims=True)
    scores, ids = index.nearest(queries, 5)
    assert ids[:, 0].tolist() == list(range(20))
    np.testing.assert_allclose(scores[:, 0], 1.0, atol=0.02)
    assert index.nearest(queries, 500)[1].shape == (20, 200)


def test_embeddings_of_any_length_and_an_arrow_table(tmp_path, encoder):
    table = pa.table({"code": ["read", "date"], "k": [1, 2]})
    index = Index.build(tmp_path / "i", table, embeddings=7 * np.eye(2, 7, dtype=np.float32), text="code")
    np.testing.assert_allclose(np.linalg.norm(index.vectors.codes, axis=1), 1.0)
    hit = index.search(["read"], encoder=encoder, k=1, mode="dense")[0][0]
    assert (hit.row, hit.score) == ({"code": "read", "k": 1}, 1.0)


def test_the_model_is_remembered_relative_to_the_index(tmp_path, encoder):
    index = Index.build(tmp_path / "run" / "index", ROWS, encoder=encoder, model=tmp_path / "run" / "model")
    assert index.settings["model"] == "../model"
    (tmp_path / "run").rename(tmp_path / "moved")
    assert Index.open(tmp_path / "moved" / "index").model == tmp_path / "moved" / "model"


def test_another_model_is_noticed(tmp_path, encoder):
    index = Index.build(tmp_path / "i", ROWS, encoder=encoder)
    with pytest.raises(ModelError, match="width 7, this encoder makes width 2"):
        index.search(["x"], encoder=Counts(["a", "b"]), mode="dense")
    with torch.no_grad():
        encoder.weight[0] = -5.0
    with pytest.raises(ModelError, match="embed the same text differently"):
        index.search(["x"], encoder=encoder, mode="dense")


def test_overwriting_must_be_asked_for_and_spares_strangers(tmp_path, encoder):
    Index.build(tmp_path / "i", ROWS, encoder=encoder)
    with pytest.raises(ModelError, match="--overwrite"):
        Index.build(tmp_path / "i", ROWS[:1], encoder=encoder)
    assert len(Index.build(tmp_path / "i", ROWS[:1], encoder=encoder, overwrite=True)) == 1
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letter").write_text("dear")
    with pytest.raises(ModelError, match="is not an index"):
        Index.build(tmp_path / "home", ROWS, encoder=encoder, overwrite=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["home", "i"]


def test_a_failed_build_leaves_the_former_index(tmp_path, encoder, monkeypatch):
    Index.build(tmp_path / "i", ROWS, encoder=encoder)

    def full(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("counterpoint.search.index.pq.write_table", full)
    with pytest.raises(ModelError, match="No space left"):
        Index.build(tmp_path / "i", ROWS[:1], encoder=encoder, overwrite=True)
    assert len(Index.open(tmp_path / "i")) == 3
    assert [p.name for p in tmp_path.iterdir()] == ["i"]


def test_damage_is_named(tmp_path, encoder):
    with pytest.raises(ModelError, match="is not an index"):
        Index.open(tmp_path / "nowhere")
    index = Index.build(tmp_path / "i", ROWS, encoder=encoder)
    rows = tmp_path / "i" / "rows.parquet"
    whole = rows.read_bytes()
    rows.write_bytes(whole[:-9])
    with pytest.raises(ModelError, match=r"rows\.parquet is cut short"):
        Index.open(tmp_path / "i")
    rows.write_bytes(whole[:-9] + bytes(9))
    with pytest.raises(ModelError, match=r"rows\.parquet has changed"):
        index.verify()
    with pytest.raises(ModelError, match="is damaged"):
        Index.open(tmp_path / "i")
    rows.unlink()
    with pytest.raises(ModelError, match=r"rows\.parquet is missing"):
        Index.open(tmp_path / "i")
    settings = json.loads((tmp_path / "i" / "index.json").read_text())
    (tmp_path / "i" / "index.json").write_text(json.dumps({**settings, "format": 99}))
    with pytest.raises(ModelError, match="format 99"):
        Index.open(tmp_path / "i")


def test_bad_input_is_named(tmp_path, encoder):
    folder = tmp_path / "i"
    with pytest.raises(DataError, match="no rows to index"):
        Index.build(folder, [], encoder=encoder)
    with pytest.raises(DataError, match="no column 'body' to index; they have text, file, line"):
        Index.build(folder, ROWS, encoder=encoder, text="body")
    with pytest.raises(DataError, match="1 of 2 rows have no text"):
        Index.build(folder, [{"text": "a"}, {"text": None}], encoder=encoder)
    with pytest.raises(DataError, match="1 of 3 embeddings are not finite"):
        Index.build(folder, ROWS, embeddings=np.array([[1.0], [np.nan], [1.0]]))
    with pytest.raises(DataError, match="expected"):
        Index.build(folder, ROWS, embeddings=np.ones((2, 4)))
    with pytest.raises(ConfigError, match="encoder and a text column"):
        Index.build(folder, ROWS)
    assert not folder.exists()
    index = Index.build(folder, ROWS, encoder=encoder, bm25=False)
    with pytest.raises(ConfigError, match="without BM25"):
        index.search(["a"], mode="bm25")
    with pytest.raises(ConfigError, match="needs the encoder"):
        index.search(["a"], mode="dense")
    with pytest.raises(ConfigError, match="no mode 'sparse'"):
        index.search(["a"], mode="sparse")
    with pytest.raises(DataError, match="no queries"):
        index.search([], encoder=encoder)
