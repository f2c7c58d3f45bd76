"""ONNX: the file gives the encoder's embeddings at any batch and length, or is not written."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer

from counterpoint.encoders import export
from counterpoint.encoders.base import find
from counterpoint.encoders.heads import Projected
from counterpoint.encoders.image import ConvNet, ConvNetConfig
from counterpoint.encoders.pairs import PairEncoder
from counterpoint.encoders.residual import ResidualText
from counterpoint.encoders.vectors import Vectors
from counterpoint.errors import ModelError
from tests import toys
from tests.encoders.samples import TEXTS, static, transformer

pytest.importorskip("onnxscript")
runtime = pytest.importorskip("onnxruntime")


@pytest.mark.parametrize("settings", [{"pooling": "last"}, {"pooling": "prompt", "template": "the dog {} [MASK] ."}])
def test_text_transformer_with_its_tokenizer_file(tmp_path, settings):
    encoder = Projected(transformer(**settings), 6).eval()
    path = tmp_path / "text.onnx"
    assert export.onnx(encoder, path) <= 1e-5
    assert sorted(p.name for p in tmp_path.iterdir()) == ["text.onnx", "text.tokenizer.json"]
    session = runtime.InferenceSession(str(path))
    tokenizer = Tokenizer.from_file(str(tmp_path / "text.tokenizer.json"))
    expected = encoder.encode(TEXTS)
    for text, row in zip(TEXTS, expected):
        ids = np.array([tokenizer.encode(text).ids])
        (given,) = session.run(None, {"input_ids": ids, "attention_mask": np.ones_like(ids)})
        assert abs(given[0] - row).max() <= 1e-5


def test_static_text_at_another_shape(tmp_path):
    encoder = static(aggregate="set")
    export.onnx(encoder, tmp_path / "static.onnx", items=TEXTS[:3])
    session = runtime.InferenceSession(str(tmp_path / "static.onnx"))
    ids = encoder.collate(TEXTS)["input_ids"].numpy()
    (given,) = session.run(None, {"input_ids": ids})
    assert abs(given - encoder.encode(TEXTS)).max() <= 1e-5


def test_an_encoder_around_another_one_is_traced_through_it(tmp_path):
    encoder = Projected(PairEncoder(ResidualText.example(), head="dot"), 5)
    with torch.no_grad():
        encoder.encoder.encoder.blocks[0].mlp[2].weight.normal_()  # which begins at 0, as if there were no block
    export.onnx(encoder, tmp_path / "around.onnx")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["around.onnx", "around.tokenizer.json"]


def test_vectors_are_free_in_number_and_fixed_in_width(tmp_path):
    encoder = Vectors.example()
    export.onnx(encoder, tmp_path / "x.onnx")
    (given,) = runtime.InferenceSession(str(tmp_path / "x.onnx")).get_inputs()
    assert given.shape[1] == encoder.config.features
    assert isinstance(given.shape[0], str)


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        ("gat", "reads a whole graph at once"),
        ("table-transformer", "reads raw cells"),
        ("image-table", "reads raw cells"),
        ("bags", "any number of instances"),
        ("upcycled-text", "decided while it is read"),
        ("pairs", "reads the last 2 layers"),
    ],
)
def test_an_encoder_without_an_onnx_form_says_why(kind, why, tmp_path):
    encoder = find(kind).example()
    for tried in (encoder, Projected(encoder, 4)):
        with pytest.raises(ModelError, match=rf"has no ONNX form: .*{why}"):
            export.onnx(tried, tmp_path / "x.onnx")
    assert not list(tmp_path.iterdir())


def test_an_encoder_of_ones_own_is_given_examples(tmp_path):
    encoder = toys.Vectors(3)
    with pytest.raises(ModelError, match=r"To export a Vectors, give `items`"):
        export.onnx(encoder, tmp_path / "x.onnx")
    assert export.onnx(encoder, tmp_path / "x.onnx", items=[[1.0, 2.0, 3.0], [0.0, 1.0, 0.0]]) <= 1e-5
    with pytest.raises(ModelError, match="`collate` gives input_ids, and this encoder is traced with input"):
        export.onnx(toys.Words(9, 4), tmp_path / "x.onnx", items=["1 2", "3"])


def test_image_encoder_is_left_as_it_was(tmp_path):
    encoder = ConvNet(ConvNetConfig(size=8, widths=(4, 8), depths=(1, 1), stem_width=4)).train()
    export.onnx(encoder, tmp_path / "image.onnx")
    assert encoder.training
    images = torch.rand(5, 3, 8, 8)
    (given,) = runtime.InferenceSession(str(tmp_path / "image.onnx")).run(None, {"input": images.numpy()})
    with torch.inference_mode():
        expected = torch.nn.functional.normalize(encoder.eval()(images), dim=-1)
    assert abs(given - expected.numpy()).max() <= 1e-5


def test_a_file_that_differs_is_not_written(tmp_path, monkeypatch):
    class Session:
        def __init__(self, *_: object, **__: object) -> None: ...

        def run(self, _: None, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
            return [np.full((len(inputs["input_ids"]), 16), np.nan)]

    monkeypatch.setattr(runtime, "InferenceSession", Session)
    monkeypatch.setattr(export, "_trace", lambda plain, inputs, path, opset: path.write_text("no graph"))
    (tmp_path / "static.onnx").write_text("the old one")
    with pytest.raises(ModelError, match=r"differ by up to nan.*not written"):
        export.onnx(static(), tmp_path / "static.onnx")
    assert [p.read_text() for p in tmp_path.iterdir()] == ["the old one"]
