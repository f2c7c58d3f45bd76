"""Whatever is encoded can be found: pictures, recordings, vectors, table rows, DNA, and pictures by texts."""

from __future__ import annotations

import json
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

import counterpoint
from counterpoint.encoders import folder as model_folder
from counterpoint.encoders.audio import AudioTransformer
from counterpoint.encoders.base import Encoder
from counterpoint.encoders.dna import DnaTransformer
from counterpoint.encoders.image import ConvNet
from counterpoint.encoders.static import StaticText
from counterpoint.encoders.table import TableTransformer
from counterpoint.encoders.vectors import Vectors
from counterpoint.errors import ConfigError, CounterpointError, DataError, ModelError
from counterpoint.modalities import base as modalities
from counterpoint.report import page
from counterpoint.report.collect import collect
from counterpoint.search.index import Index
from tests.workflow import made
from tests.workflow.conftest import Run


def model(path: Path, *towers: Encoder) -> Path:
    """A model folder of these, unlearned."""
    for tower in towers:
        model_folder.save(tower, path if len(towers) == 1 else path / tower.modality)
    return path


def squares(folder: Path) -> Path:
    """Twelve squares of as many colours."""
    folder.mkdir()
    for i in range(12):
        colour = tuple(int(v) for v in np.random.default_rng(i).integers(0, 256, 3))
        Image.new("RGB", (16, 16), colour).save(folder / f"{i:02}.png")
    return folder


def tone(path: Path, pitch: int, seconds: float = 0.3, rate: int = 8000) -> Path:
    time = np.arange(int(seconds * rate)) / rate
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, rate, 0, "NONE", ""))
        file.writeframes((9000 * np.sin(2 * np.pi * pitch * time)).astype("<i2").tobytes())
    return path


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``squares``, a model of images and its index."""
    at = tmp_path_factory.mktemp("pictures")
    counterpoint.index(model(at / "model", ConvNet.example()), squares(at / "squares"))
    return at


def first(folder: Path, *asked: tuple[str, Any], **settings: Any) -> list[Any]:
    """The best hit of each item."""
    return [hits[0] for hits in counterpoint.search(folder, items=asked, **settings)]


# --- within one modality ---------------------------------------------------------------------------------------


def test_the_same_picture_is_first(pictures: Path) -> None:
    files = sorted((pictures / "squares").iterdir())
    for file, hit in zip(files, first(pictures / "model", *(("image", f) for f in files)), strict=True):
        assert hit.row["image"] == str(file)
        assert hit.score == pytest.approx(1, abs=1e-5)
    taken = first(pictures / "model", ("image", Image.open(files[7])), ("image", files[7].read_bytes()))
    assert [hit.row["row"] for hit in taken] == [7, 7]


def test_an_index_of_pictures_says_what_it_holds_and_keeps_no_files(pictures: Path) -> None:
    opened = Index.open(pictures / "model" / "index")
    held = opened.settings["items"]
    assert (held["modality"], held["stream"], held["column"], held["row"]) == ("image", "image", "image", "row")
    assert opened.bm25 is None
    assert {str(f.type) for f in opened.rows.schema} == {"string", "int64"}


def test_pictures_on_the_command_line(run: Run, pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "index"
    said = run("index", pictures / "model", pictures / "squares", "--out", out)
    assert said.code == 0, said.all
    assert f"Search it: counterpoint search {out} --image FILE" in said.out
    cat = pictures / "squares" / "03.png"
    for words in (["--image", cat], [f"--image={cat}"], ["--item", f"image={cat}"]):
        found = run("search", out, *words, "--k", "2")
        assert found.code == 0, found.all
        assert found.out.splitlines()[1].split()[:2] == ["1.000", str(cat)]
        assert "dense, 12 rows" in found.out
    found = run("search", out, "--image", cat, "--image", pictures / "squares" / "05.png", "--json", "--k", "1")
    assert [json.loads(x)["row"] for x in found.out.splitlines()] == [3, 5]


def test_rows_that_cannot_be_read_are_left_out_and_counted(run: Run, pictures: Path, tmp_path: Path) -> None:
    cells = [{"bytes": f.read_bytes(), "path": None} for f in sorted((pictures / "squares").iterdir())[:4]]
    cells[1] = {"bytes": b"\x89PNG no picture", "path": None}
    cells[2] = None
    table = pa.table(
        {"picture": pa.array(cells, pa.struct({"bytes": pa.binary(), "path": pa.string()})), "n": range(4)}
    )
    pq.write_table(table, tmp_path / "x.parquet")
    said = run("index", pictures / "model", tmp_path / "x.parquet", "--out", tmp_path / "i")
    assert "2 of 4 rows are left out: they hold no image that can be read." in said.all
    assert Index.open(tmp_path / "i").rows.to_pylist() == [{"n": 0, "row": 0}, {"n": 3, "row": 3}]
    assert "row 3 n=3" in run("search", tmp_path / "i", "--image", pictures / "squares" / "03.png", "--k", "1").all


def test_recordings(run: Run, tmp_path: Path) -> None:
    (tmp_path / "sounds").mkdir()
    for pitch in (200, 700, 1900):
        tone(tmp_path / "sounds" / f"{pitch}.wav", pitch)
    model(tmp_path / "m", AudioTransformer.example())
    assert "--audio FILE" in run("index", tmp_path / "m", tmp_path / "sounds").out
    assert str(tmp_path / "sounds" / "700.wav") in run(
        "search", tmp_path / "m", "--audio", tone(tmp_path / "q.wav", 700), "--k", "1"
    ).all.replace(" ", "")


def test_table_rows_and_vectors_and_dna(run: Run, tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    rows = [modalities.of("table").example(rng) for _ in range(8)]
    data = made.jsonl(tmp_path / "t.jsonl", rows)
    model(tmp_path / "t", TableTransformer.example())
    assert run("index", tmp_path / "t", data).code == 0
    found = run("search", tmp_path / "t", "--table", json.dumps(rows[5]), "--json", "--k", "1")
    assert json.loads(found.out)["row"] == 5, found.all
    assert json.loads(found.out)["price"] == rows[5]["price"]

    vectors = rng.normal(size=(9, 7)).round(3)
    data = made.jsonl(tmp_path / "v.jsonl", [{"v": v.tolist(), "name": f"n{i}"} for i, v in enumerate(vectors)])
    model(tmp_path / "v", Vectors.example())
    assert run("index", tmp_path / "v", data).code == 0
    found = run("search", tmp_path / "v", "--vector", json.dumps(vectors[4].tolist()), "--k", "1")
    assert "1.000 row 4 name=n4" in found.all
    assert "7" in run("search", tmp_path / "v", "--vector", "[1, 2]").err  # the width that it takes

    bases = [modalities.of("dna").example(rng) for _ in range(20)]
    data = made.jsonl(tmp_path / "d.jsonl", [{"bases": b} for b in bases])
    model(tmp_path / "d", DnaTransformer.example())
    assert "--dna LETTERS" in run("index", tmp_path / "d", data).out
    assert json.loads(run("search", tmp_path / "d", "--dna", bases[6].lower(), "--json", "--k", "1").out)["row"] == 6


def test_a_reference_of_dna_answers_too(run: Run, tmp_path: Path) -> None:
    bases = made.dna(1200)
    (tmp_path / "ref.fa").write_text(f">c\n{bases}\n")
    built = counterpoint.index(model(tmp_path / "m", DnaTransformer.example()), tmp_path / "ref.fa")
    assert type(built).__name__ == "Reference"
    found = json.loads(run("search", tmp_path / "m", "--dna", bases[250:750], "--json", "--k", "1").out)
    assert (found["contig"], found["start"]) == ("c", 250)


# --- across towers ---------------------------------------------------------------------------------------------


def test_pictures_are_found_by_texts_and_texts_by_pictures(run: Run, tmp_path: Path) -> None:
    image = ConvNet.example()
    both = model(tmp_path / "m", StaticText.example(), image)
    data = made.captioned(tmp_path / "rows", 10)
    said = run("index", both, data, "--stream", "image", "--out", tmp_path / "images")
    assert said.code == 0, said.all
    asked = run("search", tmp_path / "images", "a red car", "--image", data / "004.png", "--k", "1", "--json")
    text, picture = map(json.loads, asked.out.splitlines())
    vector = counterpoint.load(both, "text").encode(["a red car"], role="query", normalize=True)
    pixels = counterpoint.load(both, "image").encode([str(p) for p in sorted(data.glob("*.png"))], normalize=True)
    assert text["row"] == int(np.argmax(pixels @ vector[0]))
    assert (picture["image"], picture["caption"] != "") == (str(data / "004.png"), True)

    said = run("index", both, data, "--out", tmp_path / "texts")  # both are there: the texts, and that is told
    assert "the tower text is indexed. Another: --stream image." in said.all
    assert run("search", tmp_path / "texts", "rose", "--image", data / "004.png").code == 0
    assert {str(f.type) for f in Index.open(tmp_path / "texts").rows.schema} == {"string"}

    alone = squares(tmp_path / "squares")  # without a text: the images, unasked
    assert run("index", both, alone, "--out", tmp_path / "alone").code == 0
    assert Index.open(tmp_path / "alone").settings["items"]["stream"] == "image"
    assert run("search", tmp_path / "alone", "--text", "a red car").out.startswith("a red car\n")


# --- what is refused -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("items", "error", "said"),
    [
        ([("image", "no/such.png")], DataError, "There is no file 'no/such.png'"),
        ([("image", "{at}/damaged.png")], DataError, "damaged.png' cannot be read"),
        ([("text", "a red car")], ModelError, "encodes images, not texts. Ask it with --image"),
        ([("table", '{"a": 1}')], ModelError, "encodes images, not table rows"),
        ([("table", "a=1")], DataError, "is no JSON"),
        ([("table", "[1]")], DataError, "is no JSON object of columns and cells"),
        ([("vector", "1 2")], DataError, "is no JSON"),
        ([("dna", "ACGX")], DataError, "holds 'X'"),
        ([("graph", "x")], DataError, "cannot be asked with a node of a graph"),
        ([("smell", "x")], ConfigError, "There is no modality 'smell'"),
        ([], DataError, "The question is empty"),
    ],
)
def test_a_question_that_cannot_be_asked(
    pictures: Path, items: list[tuple[str, str]], error: type[CounterpointError], said: str
) -> None:
    (pictures / "damaged.png").write_bytes(b"\x89PNG")
    asked = [(name, value.replace("{at}", str(pictures))) for name, value in items]
    with pytest.raises(error, match=said.replace("(", r"\(")):
        counterpoint.search(pictures / "model", items=asked)


def test_words_that_do_not_do(run: Run, pictures: Path, tmp_path: Path) -> None:
    cat = pictures / "squares" / "03.png"
    for words, said in (
        (["--image"], "--image needs what to search for behind it: an image."),
        (["--image", "--k", "2"], "--image needs what to search for"),
        (["--item", "cat.png"], "--item takes NAME=VALUE"),
        (["--image", cat, "--mode", "bm25"], "The mode bm25 compares words"),
    ):
        found = run("search", pictures / "model", *words)
        assert found.code == 2
        assert said in found.all
    found = run("index", pictures / "model", pictures / "squares", "--queries", "x.jsonl", "--out", tmp_path / "i")
    assert "An index of images is searched by embeddings alone: leave --queries out." in found.all
    found = run("index", pictures / "model", made.jsonl(tmp_path / "x.jsonl", [{"n": 1}]), "--out", tmp_path / "i")
    assert "No column holds image" in found.all
    found = run("index", pictures / "model", pictures / "squares", "--stream", "text", "--out", tmp_path / "i")
    assert "encodes image, not text" in found.all


def test_another_model_in_its_place_is_noticed(pictures: Path, tmp_path: Path) -> None:
    model(tmp_path / "m", ConvNet.example())
    counterpoint.index(tmp_path / "m", pictures / "squares", out=tmp_path / "i")
    model_folder.save(ConvNet.example(seed=1), tmp_path / "m")
    with pytest.raises(ModelError, match="was built by another model"):
        first(tmp_path / "i", ("image", pictures / "squares" / "00.png"))


# --- the report ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "holds"), [("image", "<img "), ("audio", "<audio "), ("table", "class=cells")])
def test_the_report_shows_items_among_neighbours(tmp_path: Path, name: str, holds: str) -> None:
    pytest.importorskip("plotly")
    modality, rng = modalities.of(name), np.random.default_rng(0)
    items = [modality.example(rng) for _ in range(29)]
    z = rng.normal(size=(29, 4)).astype(np.float32)
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    asked: list[int] = []

    def show(i: int) -> str:
        asked.append(i)
        assert modality.shown is not None
        return modality.shown(items[i])

    collect(tmp_path, z, [f"row {i} <b>" for i in range(29)], show=show, most=25)
    assert len(asked) == len(set(asked)) <= 40
    near = json.loads((tmp_path / "report" / "neighbours.json").read_text())
    row = int(near[0]["hits"][0]["text"].split()[1])  # also where rows were drawn, an item stands beside its own name
    assert near[0]["hits"][0]["shown"] == modality.shown(items[row])  # type: ignore[misc]
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "metrics.json").write_text('{"rows": 29}')
    html = page.write(tmp_path).read_text()
    assert html.count(holds) == sum(1 + len(item["hits"]) for item in near)
    neighbours = html.split("<h2>Neighbours</h2>")[1].split("</section>")[0]
    assert neighbours.count("&lt;b&gt;") == html.count(holds)  # what the rows say is escaped as ever


def test_what_is_shown_is_small_and_escaped() -> None:
    import base64
    import io

    from counterpoint.modalities import audio, image, table

    def held(html: str) -> io.BytesIO:
        return io.BytesIO(base64.b64decode(html.split("base64,")[1].split('"')[0]))

    for mode in ("RGB", "L", "1", "P", "RGBA", "LA", "CMYK", "LAB", "YCbCr", "HSV", "I", "F", "I;16"):
        html = image.shown(Image.new(mode, (400, 100)))
        assert not html or Image.open(held(html)).size == (96, 24), mode
        assert html or mode in ("LAB", "F", "HSV"), mode
    loud = np.full(48_000 * 5, 3.0, np.float32)
    with wave.open(held(audio.shown(audio.Recording(loud, 48_000)))) as file:
        assert (file.getframerate(), file.getnframes(), file.getsampwidth()) == (16_000, 48_000, 2)
    html = table.shown({"<i>": "<script>", "b": None, "c": 1.23456789, **{f"x{i}": i for i in range(20)}})
    assert "<script>" not in html
    assert "<i>" not in html
    assert "<b>c</b> 1.235" in html
    assert html.endswith("…</span>")


def test_windows_of_a_series(run: Run, tmp_path: Path) -> None:
    """The last steps of a file are the window that ends with the same step of the whole series."""
    data = waves(tmp_path / "steps.csv")
    assert run("fit", data, "--out", tmp_path / "run", "--size", "smoke", "--steps", "2").code == 0
    said = run("index", tmp_path / "run", data)
    assert said.code == 0, said.all
    assert "rows have too few before them" in said.out
    lines = data.read_text().splitlines(keepends=True)
    (tmp_path / "cut.csv").write_text("".join(lines[:91]))  # a header and 90 steps
    found = counterpoint.search(tmp_path / "run", items=[("series", tmp_path / "cut.csv")], k=1)[0][0]
    assert found.row["row"] == 89
    assert found.score == pytest.approx(1, abs=1e-5)
    with pytest.raises(DataError, match=r"A window of this model has \d+ steps of the 3 channels"):
        counterpoint.search(tmp_path / "run", items=[("series", [[1.0, 2.0, 3.0]])])
    assert "neither a file of steps nor" in run("search", tmp_path / "run", "--series", "none.csv").err


def waves(path: Path) -> Path:
    rng = np.random.default_rng(0)
    time = np.arange(240)[:, None]
    values = np.sin(time * 2 * np.pi / np.array([6, 8, 12])) + 0.3 * rng.normal(size=(240, 3))
    cells = [",".join(f"{v:.4f}" for v in row) for row in values]
    lines = [f"2020-01-01T{i // 60:02}:{i % 60:02}:00,{row}" for i, row in enumerate(cells)]
    path.write_text("\n".join(["time,a,b,c", *lines]) + "\n")
    return path


def test_a_hit_shows_what_a_class_is_called(tmp_path: Path) -> None:
    for name in ("calm", "wild"):
        (tmp_path / "classes" / name).mkdir(parents=True)
        for i in range(3):
            colour = (40 * i, 200 if name == "wild" else 20, 90)
            Image.new("RGB", (16, 16), colour).save(tmp_path / "classes" / name / f"{i}.png")
    counterpoint.index(model(tmp_path / "model", ConvNet.example()), tmp_path / "classes")
    asked = tmp_path / "classes" / "wild" / "1.png"
    assert first(tmp_path / "model", ("image", str(asked)))[0].row["label"] == "wild"
