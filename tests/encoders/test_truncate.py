"""Cut encoders: they give what the whole one has on its way, in memory, from a folder and elsewhere."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from counterpoint.encoders import export, folder
from counterpoint.encoders.heads import Projected
from counterpoint.encoders.layers import final_norm, stack
from counterpoint.encoders.truncate import depth, truncated
from counterpoint.errors import ConfigError
from tests.encoders.samples import TEXTS, static, transformer

FAMILIES: dict[str, dict[str, Any]] = {
    "bert": {},
    "modernbert": {  # normalises before each block; its layers are of two types
        "model_type": "modernbert",
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "global_attn_every_n_layers": 3,
    },
    "distilbert": {"model_type": "distilbert", "dim": 32, "hidden_dim": 64, "n_layers": 4, "n_heads": 4},
    "deberta-v2": {  # has a norm beside its layers that is not behind them
        "model_type": "deberta-v2",
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "relative_attention": True,
        "norm_rel_ebd": "layer_norm",
        "position_buckets": 8,
        "pos_att_type": ["p2c", "c2p"],
    },
}


def encoder(family: str = "bert", **settings: Any) -> Any:
    found = transformer(layers=4, architecture=FAMILIES[family], **settings)
    if (name := final_norm(found.transformer)) is not None and name:
        with torch.no_grad():  # far from the identity, so that leaving it out would show
            found.transformer.get_submodule(name).weight.normal_()
    return found


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_a_cut_encoder_gives_what_the_whole_one_has_on_its_way(family: str, pooling: str) -> None:
    whole = encoder(family, pooling=pooling)
    data = whole.collate(TEXTS)
    with torch.no_grad():
        exits = whole.exits(data, (1, 3, 4))
        assert exits.shape == (len(TEXTS), 3, 32)
        assert torch.allclose(exits[:, 2], whole(data), atol=1e-6)
        for place, n in ((0, 1), (1, 3)):
            assert torch.allclose(exits[:, place], truncated(whole, layers=n)(data), atol=1e-5)
            assert torch.allclose(exits[:, place, :7], truncated(whole, layers=n, dim=7)(data), atol=1e-5)
    assert not torch.allclose(exits[:, 0], exits[:, 1], atol=1e-2)


def test_the_norm_behind_the_layers_is_found_where_there_is_one() -> None:
    assert final_norm(encoder("modernbert").transformer) == "final_norm"
    assert [final_norm(encoder(f).transformer) for f in ("bert", "distilbert", "deberta-v2")] == ["", "", ""]


def test_exits_of_layers_without_a_norm_are_pooled_hidden_states() -> None:
    whole = encoder(pooling="cls")
    data = whole.collate(TEXTS)
    with torch.no_grad():
        states = whole.hidden_states(data)
        exits = whole.exits(data, (2, 4))
    assert torch.allclose(exits[:, 0], states[2][:, 0], atol=1e-6)
    assert torch.allclose(exits[:, 1], states[4][:, 0], atol=1e-6)


def test_gradients_of_an_exit_reach_the_layers_before_it_alone() -> None:
    whole = encoder("modernbert")
    whole.exits(whole.collate(TEXTS), (2,)).square().sum().backward()
    held = {n: p.grad for n, p in whole.transformer.named_parameters()}
    assert all(g is None or not g.any() for n, g in held.items() if n.startswith(("layers.2", "layers.3")))
    assert held["final_norm.weight"].abs().sum() > 0
    assert held["layers.1.mlp.Wo.weight"].abs().sum() > 0


def test_the_original_is_left_as_it_was() -> None:
    whole = encoder().train()
    cut = truncated(whole, layers=1, dim=4)
    assert whole.depth == 4
    assert whole.transformer.config.num_hidden_layers == 4
    assert whole.config.layers == 4
    assert cut.training
    shared = {p.data_ptr() for p in whole.parameters()} & {p.data_ptr() for p in cut.parameters()}
    assert not shared


@pytest.mark.parametrize("family", ["bert", "modernbert"])
def test_a_cut_encoder_is_an_ordinary_folder(family: str, tmp_path: Any) -> None:
    library = pytest.importorskip("sentence_transformers")
    cut = truncated(encoder(family, prompts={"query": "query: "}), layers=2, dim=8)
    folder.save(cut, tmp_path / "cut")
    expected = cut.encode(TEXTS)
    assert expected.shape == (len(TEXTS), 8)
    assert np.allclose(np.linalg.norm(expected, axis=1), 1, atol=1e-5)
    again = folder.load(tmp_path / "cut")
    assert depth(again) == 2
    assert np.allclose(again.encode(TEXTS, role="query"), cut.encode(TEXTS, role="query"), atol=1e-6)
    theirs = library.SentenceTransformer(str(tmp_path / "cut"), device="cpu")
    assert np.allclose(theirs.encode(TEXTS, show_progress_bar=False), expected, atol=1e-5)
    from transformers import AutoModel

    model = AutoModel.from_pretrained(tmp_path / "cut")
    assert len(stack(model)[1]) == 2


def test_a_cut_encoder_has_an_onnx_form(tmp_path: Any) -> None:
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    assert export.onnx(truncated(encoder("modernbert"), layers=2, dim=8), tmp_path / "cut.onnx") <= 1e-5


def test_a_projection_is_cut_by_rows_and_put_on_the_earlier_layer() -> None:
    whole = Projected(encoder(), 6).eval()
    data = whole.collate(TEXTS)
    cut = truncated(whole, layers=2, dim=3)
    assert isinstance(cut, Projected)
    assert not isinstance(cut.encoder, Projected)
    with torch.no_grad():
        expected = whole.projection(whole.encoder.exits(data, (2,))[:, 0])[:, :3]
        assert torch.allclose(cut(data), expected, atol=1e-5)


def test_an_encoder_without_layers_is_cut_in_width() -> None:
    whole = static()
    assert depth(whole) == 1
    expected = whole.encode(TEXTS, normalize=False)[:, :5]
    assert np.allclose(truncated(whole, dim=5).encode(TEXTS, normalize=False), expected, atol=1e-6)
    with pytest.raises(ConfigError, match="no layers of a static"):
        truncated(whole, layers=2)


def test_nothing_is_cut_where_nothing_is_asked() -> None:
    whole = encoder()
    assert np.array_equal(truncated(whole, layers=4, dim=32).encode(TEXTS), whole.encode(TEXTS))


@pytest.mark.parametrize(
    ("asked", "said"), [({"dim": 33}, "32 dim"), ({"dim": 0}, "1 to 32"), ({"layers": 5}, "4 lay")]
)
def test_more_than_there_is_is_refused(asked: dict[str, int], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        truncated(encoder(), **asked)
    with pytest.raises(ConfigError, match="1 to 4"):
        encoder().exits(encoder().collate(TEXTS), (0,))


def test_layers_that_are_no_list_are_refused() -> None:
    albert = {"model_type": "albert", "hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 4}
    found = transformer(architecture=albert | {"intermediate_size": 48, "embedding_size": 16})
    with pytest.raises(ConfigError, match="albert are no list"):
        truncated(found, layers=2)
    assert isinstance(found.transformer, nn.Module)
