"""Image encoders: convolutional networks and vision transformers, from scratch or from published weights.

Both take float images ``(N, C, H, W)`` in [0, 1], so that views stay pictures; mean and deviation are
subtracted and divided inside the model. Backbones are those of `transformers`, built from a configuration.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
import torch
from torch import Tensor, nn

from counterpoint.encoders.base import Encoder, Traced, seeded
from counterpoint.encoders.border import read_json, reading
from counterpoint.encoders.layout import bounded, refuse_pickles
from counterpoint.encoders.pretrained import locate
from counterpoint.errors import ConfigError, DataError, ModelError
from counterpoint.modalities.image import pixels

if TYPE_CHECKING:  # transformers' models take a second to import: where they are built
    from transformers import PreTrainedModel, ResNetModel

Stem = Literal["small", "large"]
Norm = Literal["batch", "group"]


@dataclass(frozen=True, kw_only=True)
class ConvNetConfig:
    """A convolutional network; by default the smallest useful one: four layers, 32-32-64-128, 0.1 M weights.

    size: side of the images in pixels. channels: of the images. stem: first layer, ``small`` (3×3) or
    ``large`` (7×7 with stride 2, then pooling: a quarter of the resolution; for photographs). stem_width: its
    channels. block: ``plain`` (one convolution), ``basic`` or ``bottleneck`` (residual). widths, depths:
    channels and blocks of each stage; a stage halves the resolution (not the first one of residual networks).
    norm: ``batch``, or ``group`` (no statistics of the batch: needed for gradient caching). mean, std: of
    each channel, or one for all.
    """

    size: int = 32
    channels: int = 3
    stem: Stem = "small"
    stem_width: int = 32
    block: Literal["plain", "basic", "bottleneck"] = "plain"
    widths: tuple[int, ...] = (32, 64, 128)
    depths: tuple[int, ...] = (1, 1, 1)
    norm: Norm = "batch"
    mean: tuple[float, ...] = (0.5,)
    std: tuple[float, ...] = (0.25,)

    def __post_init__(self) -> None:
        if len(self.widths) != len(self.depths) or not self.widths:
            raise ConfigError(f"widths={self.widths} and depths={self.depths}: give one of each per stage.")
        _check_images(self)

    @classmethod
    def resnet18(cls, size: int = 32, *, channels: int = 3, norm: Norm = "batch") -> ConvNetConfig:
        """ResNet-18, 512 wide, 11 M weights; below 96 pixels with the small stem, as in the CIFAR literature."""
        shape: dict[str, Any] = {"block": "basic", "widths": (64, 128, 256, 512), "depths": (2, 2, 2, 2)}
        stem: Stem = "small" if size < 96 else "large"
        return cls(size=size, channels=channels, norm=norm, stem=stem, stem_width=64, **shape)

    @classmethod
    def resnet50(cls, size: int = 224, *, channels: int = 3, norm: Norm = "batch") -> ConvNetConfig:
        """ResNet-50, 2048 wide, 23 M weights; the stem as in `resnet18`."""
        shape: dict[str, Any] = {"block": "bottleneck", "widths": (256, 512, 1024, 2048), "depths": (3, 4, 6, 3)}
        stem: Stem = "small" if size < 96 else "large"
        return cls(size=size, channels=channels, norm=norm, stem=stem, stem_width=64, **shape)


@dataclass(frozen=True, kw_only=True)
class ImageTransformerConfig:
    """A vision transformer; by default a small one for 32-pixel images (2.7 M weights).

    size, channels: of the images. patch: side of a patch in pixels. dim, depth, heads, mlp: width, layers, attention
    heads, width of the inner layer as a multiple of ``dim``. pooling: the class token, or the mean of the patches.
    architecture: a `transformers` configuration as a dict (`from_pretrained` fills it); it overrides the former fields.
    dropout: in layers. mean, std: of each channel, by which images are standardised (one value: of all).
    """

    size: int = 32
    channels: int = 3
    patch: int = 4
    dim: int = 192
    depth: int = 6
    heads: int = 3
    mlp: float = 4.0
    dropout: float = 0.0
    pooling: Literal["cls", "mean"] = "mean"
    mean: tuple[float, ...] = (0.5,)
    std: tuple[float, ...] = (0.25,)
    architecture: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.size % self.patch:
            raise ConfigError(f"Images of {self.size} pixels do not divide into patches of {self.patch}.")
        if self.dim % self.heads:
            raise ConfigError(f"dim={self.dim} does not divide among {self.heads} heads.")
        _check_images(self)


class ImageEncoder(Encoder):
    """What image encoders share: decoding, normalisation, the check of what comes in."""

    modality: ClassVar[str] = "image"
    config: ConvNetConfig | ImageTransformerConfig
    mean: Tensor
    std: Tensor

    def _set_normalisation(self) -> None:
        for name in ("mean", "std"):
            # Not persistent: the configuration holds them.
            value = torch.tensor(getattr(self.config, name)).view(1, -1, 1, 1)
            self.register_buffer(name, value, persistent=False)

    def is_one(self, items: Any) -> bool:
        """A path, bytes, a picture; an array ``(H, W)``, or ``(H, W, C)`` (a tensor ``(C, H, W)``) where C is a number
        of channels: other arrays of three axes are stacks of grey images."""
        if isinstance(items, np.ndarray | Tensor):
            if items.ndim == 3:
                return items.shape[0 if isinstance(items, Tensor) else -1] in {1, 3, 4, self.config.channels}
            return items.ndim == 2
        return super().is_one(items) or hasattr(items, "convert")

    def collate(self, items: Sequence[Any], role: str | None = None) -> Tensor:
        """Images of any kind and size to ``(N, C, size, size)`` in [0, 1]; see `counterpoint.modalities.image`."""
        return pixels(items, self.config.size, channels=self.config.channels)

    def lengths(self, items: Sequence[Any]) -> np.ndarray:
        """Patches of 8×8 pixels: all images of an encoder cost the same."""
        return np.full(len(items), max(1, (self.config.size // 8) ** 2), dtype=np.int64)

    def normalised(self, images: Tensor) -> Tensor:
        """``(images - mean) / std``, after a check of the shape."""
        if images.ndim != 4 or images.shape[1] != self.config.channels:
            raise DataError(
                f"{type(self).__name__} takes images ({self.config.channels} channels) as (N, C, H, W); "
                f"{tuple(images.shape)} was given. Use the encoder's `collate`, or set its `channels`."
            )
        return (images - self.mean) / self.std

    @classmethod
    def published(cls, source: str | Path) -> Encoder:
        """A `ConvNet` of a ResNet, an `ImageTransformer` of anything else.

        source: its path or id.
        """
        said = locate(source) / "config.json"
        resnet = said.exists() and read_json(said).get("model_type") == "resnet"
        return (ConvNet if resnet else ImageTransformer).from_pretrained(str(source))

    def traced(self) -> Traced:
        c = self.config
        images = torch.rand(3, c.channels, c.size, c.size, generator=torch.Generator().manual_seed(0))
        return Traced(forward=self.forward, example=images)

    @abstractmethod
    def _features(self, data: Tensor) -> tuple[Tensor, Tensor]:
        """Pooled ``(N, D)`` and local ``(N, T, D)`` embeddings."""

    def features(self, data: Tensor) -> tuple[Tensor, Tensor]:
        """The embedding ``(N, D)`` and those of the places ``(N, T, D)``, in one pass.

        data: ``(N, C, size, size)``.
        """
        return self._features(data)

    def forward(self, data: Tensor) -> Tensor:  # type: ignore[override]  # images are always one tensor
        return self._features(data)[0]

    def tokens(self, data: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        """Places of the feature map or patches, row by row: ``(N, T, D)`` and an all-True mask ``(N, T)``.

        data: ``(N, C, size, size)``.
        """
        local = self._features(data)[1]
        return local, torch.ones(local.shape[:2], dtype=torch.bool, device=local.device)


class ConvNet(ImageEncoder):
    """A convolutional network; the embedding is the mean of its last feature map.

    >>> encoder = ConvNet(ConvNetConfig(size=16, stem_width=4, widths=(4, 8), depths=(1, 1)))
    >>> encoder.encode(torch.rand(2, 3, 16, 16)).shape, [m.shape[1] for m in encoder.stages(torch.rand(2, 3, 16, 16))]
    ((2, 8), [4, 8])
    """

    kind: ClassVar[str] = "convnet"
    choices: ClassVar[tuple[str, ...]] = ("convnet",)
    standard: ClassVar[bool] = True
    config: ConvNetConfig

    def __init__(self, config: ConvNetConfig | None = None) -> None:
        super().__init__()
        self.config = c = config or ConvNetConfig()
        self.dim = c.widths[-1]
        self._set_normalisation()
        self.body: nn.Module = _plain(c) if c.block == "plain" else _residual(c)
        if c.norm == "group":
            _group_norm(self.body)

    @classmethod
    def example(cls, seed: int = 0) -> Self:
        with seeded(seed):
            return cls(ConvNetConfig(size=16, stem_width=8, widths=(8, 16), depths=(1, 1)))

    def stages(self, data: Tensor) -> list[Tensor]:
        """The feature map of every stage ``(N, C, H, W)``, the finest first; the embedding is the mean of the last.

        data: ``(N, C, size, size)``.
        """
        x = self.normalised(data)
        if self.config.block != "plain":
            return list(self.body(x, output_hidden_states=True).hidden_states[1:])
        maps, ends = [], list(accumulate(self.config.depths))
        # The stem is one layer, or two with the pooling of a large one.
        stem = len(self.body) - ends[-1]  # type: ignore[arg-type]
        for i, layer in enumerate(self.body, 1 - stem):  # type: ignore[arg-type]
            x = layer(x)
            if i in ends:
                maps.append(x)
        return maps

    def _features(self, data: Tensor) -> tuple[Tensor, Tensor]:
        x = self.body(self.normalised(data))
        feature_map = x if isinstance(x, Tensor) else x.last_hidden_state
        return feature_map.mean((2, 3)), feature_map.flatten(2).transpose(1, 2)

    @classmethod
    def from_pretrained(cls, source: str) -> ConvNet:
        """A ResNet of `transformers`, from a local folder or a hub id (safetensors only).

        source: its path or id.
        """
        with reading(source, "a ResNet"):
            model, images = _pretrained(source, "resnet")
            c = model.config
            if c.downsample_in_first_stage or c.downsample_in_bottleneck or c.hidden_act != "relu":
                raise ModelError(f"{source!r} is a ResNet of an unusual build, which ConvNet does not have: {c}")
            encoder = cls(
                ConvNetConfig(
                    channels=c.num_channels,
                    stem="large",
                    stem_width=c.embedding_size,
                    block=c.layer_type,
                    widths=tuple(c.hidden_sizes),
                    depths=tuple(c.depths),
                    **images,
                )
            )
            encoder.body.load_state_dict(model.state_dict())
            return encoder


class ImageTransformer(ImageEncoder):
    """A vision transformer; the embedding is the class token, or the mean of the patches, after the last norm.

    >>> encoder = ImageTransformer(ImageTransformerConfig(size=16, patch=8, dim=16, depth=1, heads=2))
    >>> encoder.encode(torch.rand(2, 3, 16, 16)).shape
    (2, 16)
    """

    kind: ClassVar[str] = "image-transformer"
    choices: ClassVar[tuple[str, ...]] = ("transformer",)
    begins: ClassVar[Literal["recipe", "scratch"]] = "scratch"
    config: ImageTransformerConfig

    def __init__(self, config: ImageTransformerConfig | None = None) -> None:
        from transformers import AutoConfig, AutoModel, ViTConfig

        super().__init__()
        self.config = c = config or ImageTransformerConfig()
        self._set_normalisation()
        if c.architecture:
            architecture = AutoConfig.for_model(**c.architecture)
        else:
            architecture = ViTConfig(
                hidden_size=c.dim,
                num_hidden_layers=c.depth,
                num_attention_heads=c.heads,
                intermediate_size=int(c.dim * c.mlp),
                hidden_dropout_prob=c.dropout,
                image_size=c.size,
                patch_size=c.patch,
                num_channels=c.channels,
            )
        self.body: PreTrainedModel = AutoModel.from_config(architecture)
        if hasattr(self.body, "pooler"):
            self.body.pooler = None  # a layer on the class token that was never trained without labels
        self.dim = architecture.hidden_size

    @classmethod
    def example(cls, seed: int = 0) -> Self:
        with seeded(seed):
            return cls(ImageTransformerConfig(size=16, patch=8, dim=32, depth=2, heads=2))

    def _features(self, data: Tensor) -> tuple[Tensor, Tensor]:
        x = self.body(pixel_values=self.normalised(data)).last_hidden_state
        patch = self.body.config.patch_size
        n_patches = (data.shape[-2] // patch) * (data.shape[-1] // patch)
        local = x[:, -n_patches:]  # class, distillation and register tokens come first
        return x[:, 0] if self.config.pooling == "cls" else local.mean(1), local

    @classmethod
    def from_pretrained(cls, source: str, *, pooling: Literal["cls", "mean"] = "cls") -> ImageTransformer:
        """A ViT, DeiT, DINOv2 ... of `transformers`, from a local folder or a hub id (safetensors only).

        source: its path or id. pooling: the class token, or the mean of the patches.
        """
        with reading(source, "a vision transformer"):
            model, images = _pretrained(source, "")
            c = model.config
            if not hasattr(c, "patch_size") or not isinstance(c.patch_size, int):
                raise ModelError(f"{source!r} is a {c.model_type}, not a transformer over square patches; try ConvNet.")
            architecture = c.to_diff_dict() | {"model_type": c.model_type}
            config = ImageTransformerConfig(
                channels=c.num_channels, patch=c.patch_size, pooling=pooling, architecture=architecture, **images
            )
            encoder = cls(config)
            weights = {k: v for k, v in model.state_dict().items() if not k.startswith("pooler.")}
            encoder.body.load_state_dict(weights)
            return encoder


def _check_images(config: ConvNetConfig | ImageTransformerConfig) -> None:
    for name in ("mean", "std"):
        if len(getattr(config, name)) not in (1, config.channels):
            raise ConfigError(f"{name} has {len(getattr(config, name))} entries for {config.channels} channels.")
    if min(config.std) <= 0:
        raise ConfigError(f"std={config.std}: every deviation must be positive.")
    if not 1 <= config.size <= 16_384 or not 1 <= config.channels <= 1_024:
        raise ConfigError(
            f"size={config.size}, channels={config.channels}: expected at least 1 of both, at most 16,384 and 1,024."
        )


def _stem(config: ConvNetConfig) -> nn.Sequential:
    from transformers.models.resnet.modeling_resnet import ResNetConvLayer

    if config.stem == "small":
        return nn.Sequential(ResNetConvLayer(config.channels, config.stem_width, kernel_size=3, stride=1))
    return nn.Sequential(
        ResNetConvLayer(config.channels, config.stem_width, kernel_size=7, stride=2),
        nn.MaxPool2d(kernel_size=3, stride=2, padding=1),
    )


def _plain(config: ConvNetConfig) -> nn.Sequential:
    from transformers.models.resnet.modeling_resnet import ResNetConvLayer

    layers, width = list(_stem(config)), config.stem_width
    for out, depth in zip(config.widths, config.depths):
        for i in range(depth):
            layers.append(ResNetConvLayer(width, out, stride=2 if i == 0 else 1))
            width = out
    net = nn.Sequential(*layers)
    _initialise(net)
    return net


def _residual(config: ConvNetConfig) -> ResNetModel:
    from transformers import ResNetConfig, ResNetModel

    net = ResNetModel(
        ResNetConfig(
            num_channels=config.channels,
            embedding_size=config.stem_width,
            hidden_sizes=list(config.widths),
            depths=list(config.depths),
            layer_type=config.block,
        )
    )
    if config.stem == "small":
        stem = _stem(config)
        _initialise(stem)
        net.embedder.embedder, net.embedder.pooler = stem[0], nn.Identity()  # type: ignore[assignment]
    return net


def _initialise(net: nn.Module) -> None:
    """He initialisation, as in the ResNets of `transformers`."""
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")


def _group_norm(net: nn.Module) -> None:
    """Batch normalisations become group normalisations of up to 32 groups (Wu & He 2018, arXiv 1803.08494)."""
    for layer in net.modules():
        for name, child in layer.named_children():
            if isinstance(child, nn.BatchNorm2d):
                setattr(layer, name, nn.GroupNorm(math.gcd(32, child.num_features), child.num_features))


def _pretrained(source: str, model_type: str) -> tuple[PreTrainedModel, dict[str, Any]]:
    """The model, and what its preprocessor says of its images: size, mean, std."""
    from transformers import AutoModel
    from transformers.image_processing_base import ImageProcessingMixin

    folder = locate(source)  # says at once where the hub cannot be reached; transformers would try for a minute
    if (folder / "config.json").exists():
        refuse_pickles(folder)
    try:
        with reading(folder, "an image model"), bounded(folder):
            model = AutoModel.from_pretrained(folder, use_safetensors=True, trust_remote_code=False)
    except ModelError as error:
        raise ModelError(
            f"No image model could be read from {source!r}: {error} "
            "Give a folder with config.json and model.safetensors, or a hub id while the network is up."
        ) from error
    if model_type and model.config.model_type != model_type:
        raise ModelError(f"{source!r} is a {model.config.model_type}; expected a {model_type}. Try ImageTransformer.")
    try:
        said, _ = ImageProcessingMixin.get_image_processor_dict(folder)
    except OSError:  # a folder without preprocessor_config.json
        said = {}
    size = getattr(model.config, "image_size", None) or said.get("size", 224)
    if isinstance(size, dict):
        size = size.get("shortest_edge") or size["height"]
    mean, std = said.get("image_mean", (0.5,)), said.get("image_std", (0.25,))
    return model, {"size": int(size), "mean": tuple(mean), "std": tuple(std)}
