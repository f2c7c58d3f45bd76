"""Encoders by name, from folders of three libraries, and back from a run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from counterpoint import load
from counterpoint.data.rowset import Made
from counterpoint.encoders import folder
from counterpoint.encoders.causal import CausalLMConfig
from counterpoint.encoders.graph import GATConfig, GCNConfig
from counterpoint.encoders.image import ConvNet, ConvNetConfig
from counterpoint.encoders.residual import ResidualTextConfig
from counterpoint.encoders.series import SeriesConfig
from counterpoint.encoders.static import StaticText, StaticTextConfig
from counterpoint.encoders.text import TextTransformer, TextTransformerConfig
from counterpoint.errors import ConfigError, ModelError
from counterpoint.modalities.vector import WIDTH as FEATURES
from counterpoint.workflow.models import SETTINGS, load_towers, make_encoder, save_towers
from tests.conformance.rows import source
from tests.workflow import made
from tests.workflow.conftest import Run

TEXTS = [r["text"] for r in made.rows("texts", 60)]
STEPS = ("--size", "smoke", "--steps", "2", "--tensorboard", "False")


ROWS = Made(made.rows("texts", 60))


@pytest.fixture(scope="module")
def transformer() -> TextTransformer:
    return TextTransformer.from_texts(TEXTS, TextTransformerConfig(layers=1, width=16, heads=2, max_length=32)).eval()


@pytest.fixture(params=["ours", "sentence-transformers", "transformers", "static of sentence-transformers"])
def published(request: pytest.FixtureRequest, tmp_path: Path, transformer: TextTransformer) -> Path:
    """A folder as each library leaves it."""
    out = tmp_path / "published"
    static = request.param.startswith("static")
    folder.save(StaticText.from_texts(TEXTS, StaticTextConfig(dim=16)) if static else transformer, out)
    if request.param != "ours":
        (out / "counterpoint.json").unlink()
    if request.param == "transformers":
        (out / "modules.json").unlink()
        (out / "config_sentence_transformers.json").unlink()
    return out


def test_a_published_encoder_is_trained_on_in_small_steps(run: Run, tmp_path: Path, published: Path) -> None:
    data, out = made.jsonl(tmp_path / "pairs.jsonl", made.rows("pairs", 40)), tmp_path / "run"
    assert run("fit", data, "--out", out, "--encoder", published, *STEPS).code == 0
    config = json.loads((out / "config.json").read_text())
    assert config["begins"] == "pretrained"
    assert config["train"]["lr"] == SETTINGS["pretrained"]["lr"] == 2e-5
    before, begun, after = (load(p).encode(TEXTS[:5]) for p in (published, out / "start", out))
    np.testing.assert_allclose(begun, before, atol=1e-6)
    assert 0 < np.abs(after - before).max() < 0.05


def test_what_is_asked_for_goes_before_the_settings_of_a_beginning(run: Run, tmp_path: Path) -> None:
    data = made.jsonl(tmp_path / "pairs.jsonl", made.rows("pairs", 40))
    assert run("fit", data, "--out", tmp_path / "run", "--encoder", "transformer", "--lr", "3e-4", *STEPS).code == 0
    train = json.loads((tmp_path / "run/config.json").read_text())["train"]
    assert train["lr"] == 3e-4
    assert train["warmup"] == SETTINGS["scratch"]["warmup"]


def test_a_run_is_trained_on(run: Run, tmp_path: Path) -> None:
    """The folder of a run is an encoder like any other: first single texts, then pairs."""
    texts = made.jsonl(tmp_path / "texts.jsonl", made.rows("texts", 40))
    pairs = made.jsonl(tmp_path / "pairs.jsonl", made.rows("pairs", 40))
    assert run("fit", texts, "--out", tmp_path / "one", *STEPS).code == 0
    assert run("fit", pairs, "--out", tmp_path / "two", "--encoder", tmp_path / "one", *STEPS).code == 0
    np.testing.assert_allclose(
        load(tmp_path / "two/start").encode(TEXTS), load(tmp_path / "one").encode(TEXTS), atol=1e-6
    )


@pytest.mark.parametrize(
    ("modality", "choice", "kind", "begins"),
    [
        ("text", "static", "static-text", "recipe"),
        ("text", "residual", "residual-text", "recipe"),
        ("text", "transformer", "text-transformer", "scratch"),
        ("text", "causal", "causal-lm", "scratch"),
        ("image", "convnet", "convnet", "recipe"),
        ("image", "transformer", "image-transformer", "scratch"),
        ("audio", "conformer", "audio-transformer", "recipe"),
        ("dna", "static", "kmer-bag", "recipe"),
        ("dna", "transformer", "dna-transformer", "scratch"),
        ("vector", "mlp", "vectors", "recipe"),
        ("table", "transformer", "table-transformer", "recipe"),
        ("graph", "gcn", "gcn", "recipe"),
        ("graph", "mlp", "node-mlp", "recipe"),
        ("series", "dilated-tcn", "series", "recipe"),
    ],
)
def test_a_word_picks_an_encoder_that_fits_the_rows(modality: str, choice: str, kind: str, begins: str) -> None:
    found, how = make_encoder(modality, choice, StaticTextConfig(), source(modality), smoke=True)
    assert (found.kind, found.modality, how) == (kind, modality, begins)
    known = source(modality).known(modality)
    if known.width:
        assert found.config.features == known.width
    if known.cells:
        assert set(found.columns.names) == set(known.cells)
    if known.names:
        assert (found.config.names, found.config.backbone) == (known.names, choice)


def test_a_recipe_that_has_the_word_keeps_its_encoder() -> None:
    """Its own class, as it is; of a relative, the settings that both have; of any other, nothing."""
    recipe = ResidualTextConfig(dim=8)
    assert make_encoder("text", "static", recipe, ROWS)[0].config == recipe
    assert make_encoder("text", "residual", StaticTextConfig(dim=8), ROWS)[0].config == ResidualTextConfig(dim=8)
    assert make_encoder("text", "static", TextTransformerConfig(), ROWS)[0].config == StaticTextConfig(
        token_dropout=0.3
    )
    small = CausalLMConfig(layers=1, width=16, heads=2, vocabulary=60)
    assert make_encoder("text", "transformer", small, ROWS)[0].config == small
    lstm = make_encoder("series", "lstm", SeriesConfig(width=8, heads=2), source("series"))[0].config
    assert (lstm.backbone, lstm.width) == ("lstm", 8)
    masked = make_encoder("graph", "gcn", GATConfig(dim=8, mask_token=True), source("graph"))[0].config
    assert masked == GCNConfig(features=FEATURES, dim=8, mask_token=True)


@pytest.mark.parametrize(
    ("modality", "word", "said"),
    [
        ("text", "lstm", "of windows of a series. For texts, --encoder takes static, causal, residual, transformer"),
        (
            "series",
            "static",
            "sequences of DNA or texts. For windows of a series, --encoder takes transformer, lstm",
        ),
        (
            "audio",
            "somebody/wav2vec",
            "weights of others are not read .* For recordings, --encoder takes conformer",
        ),
        ("graph", "/no/such/folder", "no model folder of Counterpoint, and .* takes gat, gcn, mlp, or a model folder"),
        (
            "dna",
            "somebody/dnabert",
            "weights of others are not read .* For sequences of DNA, --encoder takes static",
        ),
    ],
)
def test_what_picks_no_encoder_is_told_what_does(modality: str, word: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        make_encoder(modality, word, StaticTextConfig(), source(modality))


def test_an_image_transformer_of_transformers(tmp_path: Path) -> None:
    from transformers import ViTConfig, ViTModel

    size = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    ViTModel(ViTConfig(image_size=32, patch_size=8, **size)).save_pretrained(tmp_path / "vit")
    found, begins = make_encoder("image", str(tmp_path / "vit"), ConvNetConfig(), ROWS)
    assert (found.modality, found.dim, begins) == ("image", 16, "pretrained")


def test_a_resnet_of_transformers_is_a_convolutional_network(tmp_path: Path) -> None:
    from transformers import ResNetConfig, ResNetModel

    size = {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "basic"}
    model = ResNetModel(ResNetConfig(**size))
    model.save_pretrained(tmp_path / "resnet")
    found, begins = make_encoder("image", str(tmp_path / "resnet"), ConvNetConfig(), ROWS)
    assert isinstance(found, ConvNet)
    assert (found.dim, begins) == (16, "pretrained")
    assert torch.equal(next(found.body.parameters()), next(model.parameters()))


def test_towers_come_back_by_name(tmp_path: Path, transformer: TextTransformer) -> None:
    save_towers(
        {"text": transformer, "image": ConvNet(ConvNetConfig(size=16, widths=(8,), depths=(1,)))}, tmp_path / "m"
    )
    (tmp_path / "m/.image.123").mkdir()
    (tmp_path / "m/.image.123/counterpoint.json").write_text("{}")  # what a killed process was writing
    assert list(load_towers(tmp_path / "m")) == ["image", "text"]
    assert load(tmp_path / "m", "text").dim == 16
    with pytest.raises(ModelError, match=r"holds the towers image, text\. Name one of them"):
        load(tmp_path / "m")
    with pytest.raises(ModelError, match="encodes image and text, not audio"):
        load(tmp_path / "m", "audio")
    folder.save(transformer, tmp_path / "one")
    with pytest.raises(ConfigError, match="encodes text; these rows hold images"):
        make_encoder("image", str(tmp_path / "one"), ConvNetConfig(), ROWS)


@pytest.mark.parametrize("modality", ["text", "image"])
def test_a_hub_id_without_a_network_is_said_at_once(modality: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One question to the hub, and its failure is the answer: nothing tries again and again."""
    from huggingface_hub.errors import LocalEntryNotFoundError

    asked = []

    def unreachable(source: str, **more: object) -> None:
        asked.append(source)
        raise LocalEntryNotFoundError("no network")

    monkeypatch.setattr("huggingface_hub.snapshot_download", unreachable)
    with pytest.raises(ModelError, match=rf"the hub cannot be reached.*For {modality}s, --encoder takes"):
        make_encoder(modality, "nobody/nothing", ConvNetConfig(), ROWS)
    assert asked == ["nobody/nothing"]


def test_a_run_that_wrote_no_model_is_no_model(run: Run, tmp_path: Path) -> None:
    data, out = made.jsonl(tmp_path / "pairs.jsonl", made.rows("pairs", 40)), tmp_path / "run"
    assert run("fit", data, "--out", out, *STEPS).code == 0
    shutil.rmtree(out / "model")
    shutil.rmtree(out / "checkpoints")
    with pytest.raises(ModelError, match="has no model yet"):
        load(out)


def test_adapters_learn_and_a_plain_model_is_written(run: Run, tmp_path: Path, transformer: TextTransformer) -> None:
    pytest.importorskip("peft")
    base, data = tmp_path / "base", made.jsonl(tmp_path / "pairs.jsonl", made.rows("pairs", 40))
    folder.save(transformer, base)
    asked = ("fit", data, "--encoder", base, "--lora", 4, "--batch", 8, "--lr", 1e-2)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    told = run(*asked, "--out", whole, "--steps", 4)
    assert told.code == 0
    assert "Adapters of rank 4 in the text encoder" in told.out
    assert json.loads((whole / "config.json").read_text())["begins"] == "adapted"
    start, end = load(whole / "start"), load(whole)
    assert start.state_dict().keys() == end.state_dict().keys() == transformer.state_dict().keys()
    np.testing.assert_allclose(start.encode(TEXTS[:5]), transformer.encode(TEXTS[:5]), atol=1e-6)
    assert np.abs(end.encode(TEXTS[:5]) - start.encode(TEXTS[:5])).max() > 1e-3
    # A resumed run puts the adapters in again and goes on with them.
    assert run(*asked, "--out", parts, "--steps", 2).code == 0
    assert run("fit", "--out", parts, "--resume", "--steps", 4).code == 0
    assert run("fit", data, "--out", tmp_path / "random", "--lora", 4).code == 2
