"""Shapes, batch invariance, what the norms do, and loading of published weights without a network."""

import json
from dataclasses import asdict

import numpy as np
import pytest
import torch
from torch import nn
from transformers import ResNetConfig, ResNetModel, ViTConfig, ViTModel

from counterpoint.encoders.image import ConvNet, ConvNetConfig, ImageTransformer, ImageTransformerConfig
from counterpoint.errors import ConfigError, DataError, ModelError

CONFIGS = {
    "plain": ConvNetConfig(),
    "plain, one channel, large stem": ConvNetConfig(channels=1, size=48, stem="large", norm="group"),
    "residual": ConvNetConfig(block="basic", widths=(16, 32), depths=(1, 1), stem_width=16),
    "bottleneck, four channels": ConvNetConfig(
        block="bottleneck", widths=(16, 32), depths=(1, 1), channels=4, stem="large", norm="group"
    ),
    "transformer": ImageTransformerConfig(dim=32, depth=2, heads=2),
    "transformer, class token": ImageTransformerConfig(dim=32, depth=1, heads=2, pooling="cls", channels=1),
}


def build(config):
    torch.manual_seed(0)
    return (ConvNet if isinstance(config, ConvNetConfig) else ImageTransformer)(config)


def pictures(config, n=5):
    return torch.rand(n, config.channels, config.size, config.size, generator=torch.Generator().manual_seed(1))


@pytest.fixture(params=CONFIGS.values(), ids=CONFIGS)
def encoder(request):
    return build(request.param)


def test_embeddings_and_tokens_have_their_shapes(encoder):
    x = pictures(encoder.config)
    assert encoder(x).shape == (5, encoder.dim)
    tokens, mask = encoder.tokens(x)
    assert tokens.shape == (5, mask.shape[1], encoder.dim)
    assert mask.all()
    encoder.eval()
    if getattr(encoder.config, "pooling", "mean") == "mean":
        torch.testing.assert_close(encoder.tokens(x)[0].mean(1), encoder(x))


def test_an_image_is_encoded_alike_in_any_company(encoder):
    encoder.train()
    items = list(pictures(encoder.config, 7))
    together = encoder.encode(items)
    assert together.shape == (7, encoder.dim)
    assert together.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(encoder.encode(items[3:4])[0], together[3], rtol=0, atol=1e-6)
    np.testing.assert_allclose(encoder.encode(items[::-1], budget=40)[::-1], together, rtol=0, atol=1e-6)
    assert encoder.training


def test_every_weight_gets_a_gradient(encoder):
    encoder.train()
    (encoder(pictures(encoder.config)) * torch.randn(5, encoder.dim)).sum().backward()
    without = [n for n, p in encoder.named_parameters() if p.grad is None or not p.grad.any()]
    assert not without


def test_a_folder_gives_the_encoder_back(encoder, tmp_path):
    encoder.train()(pictures(encoder.config))  # so that batch norms have statistics
    encoder.write(tmp_path)
    config = json.loads(json.dumps(asdict(encoder.config)))
    again = type(encoder).read(tmp_path, config)
    assert again.config == encoder.config
    x = pictures(encoder.config)
    assert torch.equal(again.eval()(x), encoder.eval()(x))


def test_the_same_seed_gives_the_same_weights(encoder):
    again = build(encoder.config)
    assert all(torch.equal(a, b) for a, b in zip(encoder.state_dict().values(), again.state_dict().values()))


def test_normalisation_is_inside_the_model():
    config = ConvNetConfig(mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7))
    encoder, x = build(config), pictures(config)
    expected = (x - torch.tensor([0.1, 0.2, 0.3]).view(3, 1, 1)) / torch.tensor([0.5, 0.6, 0.7]).view(3, 1, 1)
    torch.testing.assert_close(encoder.normalised(x), expected)
    assert not {"mean", "std"} & set(encoder.state_dict())


def test_group_norm_leaves_no_statistics_of_the_batch():
    for config in (ConvNetConfig(norm="group"), ConvNetConfig.resnet18(norm="group")):
        encoder = build(config).train()
        assert not any(isinstance(m, nn.BatchNorm2d) for m in encoder.modules())
        x = pictures(config)
        torch.testing.assert_close(encoder(x)[:2], encoder(x[:2]), rtol=0, atol=1e-5)


def test_the_published_networks_have_their_published_sizes():
    def weights(config):
        return sum(p.numel() for p in build(config).parameters())

    assert weights(ConvNetConfig.resnet18(224)) == 11_176_512  # torchvision's 11,689,512 without its classifier
    assert weights(ConvNetConfig.resnet50(224)) == 23_508_032  # 25,557,032 without its classifier
    layers = [m for m in build(ConvNetConfig()).modules() if isinstance(m, nn.Conv2d)]
    assert [m.out_channels for m in layers] == [32, 32, 64, 128]


def test_the_small_stem_keeps_the_resolution():
    small = build(ConvNetConfig.resnet18(32))
    assert small.tokens(pictures(small.config, 1))[0].shape[1] == 4 * 4  # 32 / 2 / 2 / 2
    large = build(ConvNetConfig.resnet18(96))
    assert large.tokens(pictures(large.config, 1))[0].shape[1] == 3 * 3  # 96 / 4 / 8


def test_published_weights_load_from_a_folder(tmp_path):
    torch.manual_seed(0)
    resnet = ResNetModel(
        ResNetConfig(embedding_size=16, hidden_sizes=[16, 32], depths=[1, 1], layer_type="basic")
    ).eval()
    resnet.save_pretrained(tmp_path / "resnet")
    encoder = ConvNet.from_pretrained(str(tmp_path / "resnet")).eval()
    x = torch.rand(2, 3, 64, 64)
    torch.testing.assert_close(encoder(x), resnet(encoder.normalised(x)).pooler_output.flatten(1))

    vit = ViTModel(
        ViTConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, image_size=32)
    ).eval()
    vit.save_pretrained(tmp_path / "vit")
    (tmp_path / "vit" / "preprocessor_config.json").write_text(
        '{"image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6]}'
    )
    transformer = ImageTransformer.from_pretrained(str(tmp_path / "vit")).eval()
    assert (transformer.config.size, transformer.config.patch) == (32, 16)
    assert transformer.config.mean == (0.1, 0.2, 0.3)
    x = torch.rand(2, 3, 32, 32)
    hidden = vit(transformer.normalised(x)).last_hidden_state
    torch.testing.assert_close(transformer(x), hidden[:, 0])
    torch.testing.assert_close(transformer.tokens(x)[0], hidden[:, 1:])
    transformer.write(tmp_path)
    rebuilt = ImageTransformer.read(tmp_path, json.loads(json.dumps(asdict(transformer.config))))
    torch.testing.assert_close(rebuilt.eval()(x), hidden[:, 0])

    with pytest.raises(ModelError, match="expected a resnet"):
        ConvNet.from_pretrained(str(tmp_path / "vit"))


def test_pickled_weights_and_empty_folders_are_refused(tmp_path):
    model = ResNetModel(ResNetConfig(embedding_size=8, hidden_sizes=[8], depths=[1], layer_type="basic"))
    model.config.save_pretrained(tmp_path)
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(ModelError, match="safetensors"):
        ConvNet.from_pretrained(str(tmp_path))
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match=r"config\.json"):
        ImageTransformer.from_pretrained(str(tmp_path / "empty"))


def test_wrong_images_and_settings_are_sentences():
    with pytest.raises(DataError, match="3 channels"):
        build(ConvNetConfig())(torch.rand(2, 1, 32, 32))
    for wrong in (
        lambda: ConvNetConfig(widths=(8, 16), depths=(1,)),
        lambda: ConvNetConfig(mean=(0.1, 0.2)),
        lambda: ConvNetConfig(std=(0.0,)),
        lambda: ImageTransformerConfig(size=30, patch=4),
        lambda: ImageTransformerConfig(dim=100, heads=3),
    ):
        with pytest.raises(ConfigError):
            wrong()


@pytest.mark.parametrize(
    ("config", "shapes"),
    [
        (ConvNetConfig(size=32, stem_width=4, widths=(6, 8), depths=(2, 1)), [(6, 16), (8, 8)]),
        (ConvNetConfig(size=32, stem="large", stem_width=4, widths=(6, 8), depths=(1, 2)), [(6, 4), (8, 2)]),
        (ConvNetConfig(size=32, block="basic", stem_width=8, widths=(8, 16), depths=(1, 1)), [(8, 32), (16, 16)]),
    ],
    ids=["plain", "large stem", "residual"],
)
def test_maps_of_every_stage_the_last_of_which_the_embedding_is_the_mean(config, shapes):
    encoder = ConvNet(config).eval()
    images = torch.rand(2, 3, 32, 32)
    maps = encoder.stages(images)
    assert [tuple(m.shape) for m in maps] == [(2, c, side, side) for c, side in shapes]
    torch.testing.assert_close(maps[-1].mean((2, 3)), encoder(images))
