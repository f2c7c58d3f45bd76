"""One item or several: what counts as which, in whatever they are given, and in which order they come back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from counterpoint.encoders.audio import AudioTransformer
from counterpoint.encoders.bag_attention import BagEncoder
from counterpoint.encoders.image import ConvNet, ConvNetConfig
from counterpoint.encoders.moe import Upcycled
from counterpoint.encoders.series import SeriesEncoder
from counterpoint.encoders.table import TableTransformer
from counterpoint.encoders.vectors import VectorConfig, Vectors
from counterpoint.errors import ConfigError, DataError, NotFiniteError
from counterpoint.modalities.audio import Recording
from tests.encoders.samples import TEXTS, static, transformer

ENCODER = static()


def test_texts_in_whatever_holds_several() -> None:
    pandas = pytest.importorskip("pandas")
    expected = ENCODER.encode(TEXTS)
    series = pandas.Series(TEXTS, index=range(len(TEXTS))[::-1])  # its labels are not its places
    held: list[Any] = [tuple(TEXTS), np.array(TEXTS), np.array(TEXTS, dtype=object), series, (t for t in TEXTS)]
    for given in [*held, dict.fromkeys(TEXTS[:3]).keys()]:
        z = ENCODER.encode(given)
        assert abs(z - expected[: len(z)]).max() == 0
    arrow = pytest.importorskip("pyarrow")
    for given in (arrow.array(TEXTS), arrow.chunked_array([TEXTS[:2], TEXTS[2:]])):
        assert abs(ENCODER.encode(given) - expected).max() == 0
    datasets = pytest.importorskip("datasets")
    assert abs(ENCODER.encode(datasets.Dataset.from_dict({"t": TEXTS})["t"]) - expected).max() == 0


def test_tables_are_no_texts_and_sets_have_no_order() -> None:
    pandas = pytest.importorskip("pandas")
    with pytest.raises(DataError, match=r"DataFrame is a table: give one of its columns"):
        ENCODER.encode(pandas.DataFrame({"text": TEXTS}))
    with pytest.raises(DataError, match="set has no order"):
        ENCODER.encode(set(TEXTS))
    with pytest.raises(DataError, match="item 0 is of the type dict"):
        ENCODER.encode({"text": "a dog"})


def test_a_wrong_item_is_named_by_its_place_among_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("counterpoint.encoders.subwords.WINDOW", 4)
    texts: list[Any] = ["a dog"] * 11
    for wrong, said in (
        (["a", "b"], "list"),
        (b"a dog", "bytes"),
        (None, "NoneType"),
        (3, "int"),
        (("a", "b"), "tuple"),
    ):
        with pytest.raises(DataError, match=f"item 9 is of the type {said}"):
            transformer().encode([*texts[:9], wrong])
    with pytest.raises(DataError, match=r"Text 9 of 11 holds half of a surrogate pair"):
        transformer().encode([*texts[:9], "a \ud800", "b"])
    images = [np.zeros((8, 8, 3), np.uint8)] * 40
    with pytest.raises(DataError, match=r"Image 37 of 41 cannot be used.*there is no image file 'no\.png'"):
        ConvNet.example().encode([*images[:37], "no.png", *images[37:]], budget=8)


def test_images() -> None:
    encoder = ConvNet(ConvNetConfig(size=8, widths=(4, 8), depths=(1, 1), stem_width=4)).eval()
    rng = np.random.default_rng(0)
    colour, grey = rng.random((9, 8, 3)).astype(np.float32), rng.random((9, 8)).astype(np.float32)
    tensor = torch.from_numpy(colour).movedim(-1, 0)
    for one in (colour, grey, tensor, tensor[0], rng.random((9, 8, 1))):
        assert encoder.encode(one).shape == (8,)
        assert abs(encoder.encode(one) - encoder.encode([one])[0]).max() == 0
    for several in (np.stack([colour] * 2), np.stack([grey] * 2), torch.stack([tensor] * 2)):
        assert encoder.encode(several).shape == (2, 8)
    pictures = pytest.importorskip("PIL.Image")
    picture = pictures.fromarray((colour * 255).astype(np.uint8))
    assert encoder.encode(picture).shape == (8,)


def test_images_and_recordings_by_their_path(tmp_path: Path) -> None:
    pictures = pytest.importorskip("PIL.Image")
    path = tmp_path / "a.png"
    pictures.fromarray(np.full((9, 9, 3), 7, np.uint8)).save(path)
    encoder = ConvNet.example()
    for one in (path, str(path), path.read_bytes(), {"path": str(path), "bytes": None}):
        assert abs(encoder.encode(one) - encoder.encode([path])[0]).max() == 0
    samples = np.sin(np.arange(8_000) / 9).astype(np.float32)
    heard = AudioTransformer.example()
    alone = heard.encode(Recording(samples, 16_000))
    assert alone.shape == (heard.dim,)
    assert abs(heard.encode({"array": samples, "sampling_rate": 16_000}) - alone).max() == 0
    for bare in (samples, samples.tolist()[:50]):
        with pytest.raises(DataError, match="samples without their rate"):
            heard.encode(bare)
    with pytest.raises(DataError, match=r"Item 1 of 2"):
        heard.encode([Recording(samples, 16_000), tmp_path / "none.wav"])


def test_rows_of_numbers_windows_and_bags() -> None:
    vectors = Vectors(VectorConfig(features=3, dim=4))
    for one in ([1.0, 2, 3], (1, 2, 3), np.arange(3), torch.arange(3)):
        assert vectors.encode(one).shape == (4,)
    assert vectors.encode(np.ones((5, 3))).shape == (5, 4)
    with pytest.raises(DataError, match=r"Vector 1 has shape \(2,\)"):
        vectors.encode([[1.0, 2, 3], [1.0, 2]])
    bags = BagEncoder(vectors)
    for one in (np.ones((5, 3)), [[1.0, 2, 3]], [np.arange(3), np.arange(3)]):
        assert bags.encode(one).shape == (4,)
    assert bags.encode([[[1.0, 2, 3]], np.ones((2, 3))]).shape == (2, 4)
    windows = SeriesEncoder.example()
    window = np.random.default_rng(0).normal(size=(12, windows.config.channels))
    for one in (window, window.tolist(), torch.from_numpy(window)):
        assert abs(windows.encode(one) - windows.encode([window])[0]).max() == 0


def test_rows_of_a_table() -> None:
    pandas = pytest.importorskip("pandas")
    encoder = TableTransformer.example()
    rows = [{"kind": "a", "sold": True, "price": 0.5, "area": 3}, {"kind": "b", "sold": None, "price": None, "area": 9}]
    expected = encoder.encode(rows)
    assert abs(encoder.encode(rows[1]) - expected[1]).max() == 0
    frame = pandas.DataFrame(rows, index=[7, 3])
    assert abs(encoder.encode(frame) - expected).max() == 0
    with pytest.raises(DataError, match="Row 1 is of the type list"):
        encoder.encode([rows[0], ["a", True]])


def test_a_text_with_its_domain_is_one_item() -> None:
    encoder = Upcycled.example()
    name = encoder.domains[0]
    alone = encoder.encode(("a claim", name))
    assert alone.shape == (encoder.dim,)
    assert abs(alone - encoder.encode("a claim", role=name)).max() <= 1e-6
    assert encoder.encode(("a claim", "another claim")).shape == (2, encoder.dim)
    with pytest.raises(DataError, match="is a tuple of 3"):
        encoder.encode([("a", "b", "c")])


def test_rows_of_embeddings_that_are_not_finite_are_numbered() -> None:
    encoder = transformer()
    with torch.no_grad():
        row = encoder.tokenizer.convert_tokens_to_ids("voices")
        encoder.transformer.get_input_embeddings().weight[row] = 1e38  # finite, and no number after a few layers
    wrong = tuple(i for i, text in enumerate(TEXTS) if "voices" in text)
    with pytest.raises(NotFiniteError) as caught:
        encoder.encode(TEXTS, budget=16)
    assert caught.value.rows == wrong
    assert f"(row {wrong[0]}, {wrong[1]}, counted from 0)" in str(caught.value)


def test_the_default_prompt_is_put_where_no_role_is_named() -> None:
    encoder = transformer(prompts={"query": "the dog ", "document": ""})
    plain = encoder.encode(TEXTS)
    encoder.default_prompt = "query"
    assert abs(encoder.encode(TEXTS) - encoder.encode([f"the dog {t}" for t in TEXTS], role="none")).max() <= 1e-6
    assert abs(encoder.encode(TEXTS, role="none") - plain).max() <= 1e-6
    assert abs(encoder.encode(TEXTS, role="document") - plain).max() <= 1e-6
    assert encoder.collate(["a"])["input_ids"].equal(encoder.collate(["a"], "query")["input_ids"])
    encoder.default_prompt = None
    with pytest.raises(ConfigError, match="role='none'"):
        encoder.encode(TEXTS, role="none")
