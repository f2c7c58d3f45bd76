"""Model folders: other libraries give the same embeddings; a failed write loses nothing; bad folders get a sentence."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import nn

from counterpoint.encoders import folder
from counterpoint.encoders.base import Encoder
from counterpoint.encoders.heads import Projected
from counterpoint.encoders.image import ConvNet, ConvNetConfig, ImageTransformer, ImageTransformerConfig
from counterpoint.encoders.text import TextTransformer
from counterpoint.errors import ModelError
from tests.encoders.samples import TEXTS, static, transformer

POOLINGS = ["cls", "mean", "weighted", "last", "max"]
BUILDS = {
    **{f"transformer-{p}": lambda p=p: transformer(pooling=p) for p in POOLINGS},
    "static-mean": static,
    "static-set": lambda: static(aggregate="set", model="bpe", identifiers=True),
    "static-uniform": lambda: static(weights="uniform"),
    "projected": lambda: Projected(transformer(), 7).eval(),
    "projected-set": lambda: Projected(static(aggregate="set"), 7).eval(),
}


@pytest.mark.parametrize("name", BUILDS)
def test_sentence_transformers_and_we_agree_after_a_round_trip(name, tmp_path):
    library = pytest.importorskip("sentence_transformers")
    encoder = BUILDS[name]()
    expected = encoder.encode(TEXTS)
    folder.save(encoder, tmp_path / "m")
    again = folder.load(tmp_path / "m")
    assert type(again) is type(encoder)
    assert again.config == encoder.config
    assert not again.training
    assert abs(again.encode(TEXTS) - expected).max() <= 1e-6
    theirs = library.SentenceTransformer(str(tmp_path / "m"), device="cpu").encode(TEXTS)
    assert abs(theirs - expected).max() <= 1e-5


def test_without_unit_length(tmp_path):
    library = pytest.importorskip("sentence_transformers")
    for name in ("transformer-mean", "static-mean", "static-set"):
        encoder = BUILDS[name]()
        encoder.normalize = False
        folder.save(encoder, tmp_path / name)
        again = folder.load(tmp_path / name)
        assert again.normalize is False
        np.testing.assert_allclose(again.encode(TEXTS), encoder.encode(TEXTS), atol=1e-6)
        if name == "static-set":  # theirs would be longer than ours by the number of tokens
            assert not (tmp_path / name / "modules.json").exists()
        else:
            theirs = library.SentenceTransformer(str(tmp_path / name), device="cpu").encode(TEXTS)
            np.testing.assert_allclose(theirs, encoder.encode(TEXTS), atol=1e-5)


def test_transformers_reads_the_folder(tmp_path):
    from transformers import AutoModel, AutoTokenizer

    encoder = transformer()
    folder.save(encoder, tmp_path / "m")
    model, tokenizer = (c.from_pretrained(tmp_path / "m") for c in (AutoModel, AutoTokenizer))
    batch = tokenizer(TEXTS, padding=True, truncation=True, return_tensors="pt")
    with torch.no_grad():
        hidden = model.eval()(**batch).last_hidden_state
    mask = batch["attention_mask"].unsqueeze(-1)
    mean = nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=-1)
    assert abs(mean.numpy() - encoder.encode(TEXTS)).max() <= 1e-5


def test_prompts_travel(tmp_path):
    library = pytest.importorskip("sentence_transformers")
    encoder = transformer(prompts={"query": "the dog ", "document": "a "})
    folder.save(encoder, tmp_path / "m")
    expected = encoder.encode(TEXTS, role="query")
    assert abs(folder.load(tmp_path / "m").encode(TEXTS, role="query") - expected).max() <= 1e-6
    theirs = library.SentenceTransformer(str(tmp_path / "m"), device="cpu")
    assert abs(theirs.encode(TEXTS, prompt_name="query") - expected).max() <= 1e-5


def test_folders_that_sentence_transformers_wrote_are_read(tmp_path):
    library = pytest.importorskip("sentence_transformers")
    for name in ("transformer-weighted", "static-mean"):
        folder.save(BUILDS[name](), tmp_path / name)
        theirs = library.SentenceTransformer(str(tmp_path / name), device="cpu")
        theirs.prompts["query"] = "the dog "
        theirs.save(str(tmp_path / f"{name}-2"))
        again = folder.load(tmp_path / f"{name}-2")
        assert abs(again.encode(TEXTS) - theirs.encode(TEXTS)).max() <= 1e-5
        queries = theirs.encode(TEXTS, prompt_name="query")
        assert abs(again.encode(TEXTS, role="query") - queries).max() <= 1e-5


def test_a_plain_transformers_folder_pools_with_the_mean(tmp_path):
    encoder = transformer()
    encoder.transformer.save_pretrained(tmp_path)
    encoder.tokenizer.save_pretrained(tmp_path)
    again = folder.load(tmp_path)
    assert isinstance(again, TextTransformer)
    assert (again.config.pooling, again.normalize, again.max_length) == ("mean", True, 24)
    assert abs(again.encode(TEXTS) - encoder.encode(TEXTS)).max() <= 1e-6
    cls = TextTransformer.from_pretrained(tmp_path, pooling="cls")
    assert abs(cls.encode(TEXTS) - encoder.encode(TEXTS)).max() > 0.01


@pytest.mark.parametrize(
    "encoder",
    [
        ConvNet(ConvNetConfig(size=8, widths=(4, 8), depths=(1, 1), stem_width=4)),
        ImageTransformer(ImageTransformerConfig(size=8, patch=4, dim=8, depth=1, heads=1)),
    ],
    ids=["convnet", "vit"],
)
def test_image_encoders(encoder, tmp_path):
    encoder.eval()
    images = torch.rand(3, 3, 8, 8)
    expected = encoder(images)
    for i, one in enumerate((encoder, Projected(encoder, 5).eval())):
        folder.save(one, tmp_path / str(i))
        again = folder.load(tmp_path / str(i))
        torch.testing.assert_close(again(images), one(images))
        assert again.config == one.config
        assert not (tmp_path / str(i) / "modules.json").exists()
    torch.testing.assert_close(encoder(images), expected)


@dataclass(frozen=True, kw_only=True)
class OwnConfig:
    sizes: tuple[int, ...] = (3, 2)


class Own(Encoder):
    """What a user of the library might write."""

    kind: ClassVar[str] = "own-of-a-test"
    modality = "vector"
    config: OwnConfig

    def __init__(self, config: OwnConfig) -> None:
        super().__init__()
        self.config, self.dim = config, config.sizes[-1]
        self.map = nn.Linear(*config.sizes)

    def collate(self, items, role=None):
        return torch.tensor(items)

    def forward(self, data):
        return self.map(data)


def test_an_encoder_of_ones_own_needs_a_kind_and_a_configuration_only(tmp_path):
    encoder = Own(OwnConfig())
    folder.save(encoder, tmp_path / "m")
    again = folder.load(tmp_path / "m")
    assert again.config == OwnConfig()
    assert again.map.weight.equal(encoder.map.weight)
    card = json.loads((tmp_path / "m/counterpoint.json").read_text())
    (tmp_path / "m/counterpoint.json").write_text(json.dumps(card | {"kind": "nobody's"}))
    with pytest.raises(ModelError, match=r'no encoder of the kind "nobody\'s".*text-transformer'):
        folder.load(tmp_path / "m")


def test_a_failed_write_leaves_the_old_model(tmp_path, monkeypatch):
    encoder = static()
    folder.save(encoder, tmp_path / "m")
    expected = folder.load(tmp_path / "m").encode(TEXTS)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("counterpoint.encoders.folder.write_json", full)
        with pytest.raises(ModelError, match=r"No space left.*untouched"):
            folder.save(static(seed=1), tmp_path / "m")
    assert [p.name for p in tmp_path.iterdir()] == ["m"]
    assert abs(folder.load(tmp_path / "m").encode(TEXTS) - expected).max() == 0
    folder.save(static(seed=1), tmp_path / "m")
    assert abs(folder.load(tmp_path / "m").encode(TEXTS) - expected).max() > 0.01
    assert [p.name for p in tmp_path.iterdir()] == ["m"]


def test_a_folder_with_other_things_is_not_replaced(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ModelError, match="other things than a model"):
        folder.save(static(), tmp_path)
    with pytest.raises(ModelError, match="is a file"):
        folder.save(static(), tmp_path / "thesis.tex")
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_damaged_folders_get_a_sentence(tmp_path):
    folder.save(static(), tmp_path / "m")
    weights = tmp_path / "m/model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelError, match=r"weights .* cannot be read"):
        folder.load(tmp_path / "m")
    weights.write_bytes(whole)
    card = tmp_path / "m/counterpoint.json"
    held = json.loads(card.read_text())
    card.write_text(json.dumps(held | {"config": held["config"] | {"new_setting": 1}}))
    with pytest.raises(ModelError, match=r"'new_setting'.*upgrade"):
        folder.load(tmp_path / "m")
    card.write_text("{")
    with pytest.raises(ModelError, match="cannot be read as JSON"):
        folder.load(tmp_path / "m")
    with pytest.raises(ModelError, match="There is no model folder"):
        folder.load(tmp_path / "nothing")


def test_modules_outside_the_folder_or_unknown_are_refused(tmp_path):
    folder.save(transformer(), tmp_path / "m")
    (tmp_path / "m/counterpoint.json").unlink()
    listing = tmp_path / "m/modules.json"
    rows = json.loads(listing.read_text())
    listing.write_text(json.dumps([*rows, {"idx": 3, "name": "3", "path": "x", "type": "a.b.LSTM"}]))
    with pytest.raises(ModelError, match="LSTM"):
        folder.load(tmp_path / "m")
    listing.write_text(json.dumps([rows[0] | {"path": "../elsewhere"}]))
    with pytest.raises(ModelError, match="outside the folder"):
        folder.load(tmp_path / "m")


def test_the_card_says_how_to_load(tmp_path):
    folder.save(transformer(), tmp_path / "m")
    card = (tmp_path / "m/README.md").read_text()
    assert "load(FOLDER).encode" in card
    assert "SentenceTransformer(FOLDER)" in card
    assert "(1, 32)" in card


def test_a_prompt_is_ours_alone(tmp_path):
    encoder = transformer(pooling="prompt", template="the dog {} [MASK] .")
    folder.save(encoder, tmp_path / "m")
    again = folder.load(tmp_path / "m")
    assert again.config == encoder.config
    assert abs(again.encode(TEXTS) - encoder.encode(TEXTS)).max() <= 1e-6
    assert not (tmp_path / "m" / "modules.json").exists()  # sentence-transformers has no such pooling
