"""Every encoder passes these checks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import counterpoint.encoders as package
from counterpoint.encoders import folder
from counterpoint.encoders.audio import AudioTransformer, AudioTransformerConfig
from counterpoint.encoders.bags import BagEncoder
from counterpoint.encoders.base import Encoder
from counterpoint.encoders.causal import CausalLM, CausalLMConfig
from counterpoint.encoders.dna import DnaTransformer, DnaTransformerConfig
from counterpoint.encoders.fusion import ImageTable, Interaction
from counterpoint.encoders.graph import GAT, GCN, GATConfig, GCNConfig
from counterpoint.encoders.heads import Projected
from counterpoint.encoders.image import ConvNet, ConvNetConfig, ImageTransformer, ImageTransformerConfig
from counterpoint.encoders.kmers import KmerBag, KmerBagConfig
from counterpoint.encoders.moe import Upcycled, UpcycledConfig
from counterpoint.encoders.nodes import NodeMLP, NodeMLPConfig
from counterpoint.encoders.pairs import PairEncoder
from counterpoint.encoders.residual import ResidualText, ResidualTextConfig
from counterpoint.encoders.series import SeriesConfig, SeriesEncoder
from counterpoint.encoders.static import StaticText, StaticTextConfig
from counterpoint.encoders.table import TableTransformer, TableTransformerConfig
from counterpoint.encoders.text import TextTransformer, TextTransformerConfig
from counterpoint.encoders.vectors import VectorConfig, Vectors
from tests.conformance.discovery import subclasses
from tests.conformance.rows import FEATURES, dna, graph, image, recording, table, text, texts, vector, with_columns

pytest.importorskip("PIL")

TINY = {
    "StaticText": lambda: StaticText.from_texts(texts(), StaticTextConfig(dim=16)),
    "TextTransformer": lambda: TextTransformer.from_texts(
        texts(), TextTransformerConfig(layers=2, width=32, heads=2, vocabulary=200, max_length=64)
    ),
    "CausalLM": lambda: CausalLM.from_texts(
        texts(), CausalLMConfig(layers=2, width=32, heads=2, vocabulary=200, max_length=64)
    ),
    "ResidualText": lambda: ResidualText.from_texts(texts(), ResidualTextConfig(dim=16)),
    "Upcycled": lambda: Upcycled(TINY["TextTransformer"](), UpcycledConfig(domains=("law", "news"))),
    "ConvNet": lambda: ConvNet(ConvNetConfig(size=16, stem_width=8, widths=(8, 16), depths=(1, 1))),
    "ImageTransformer": lambda: ImageTransformer(ImageTransformerConfig(size=16, patch=8, dim=32, depth=2, heads=2)),
    "GAT": lambda: GAT(GATConfig(features=FEATURES, dim=16, heads=2)),
    "GCN": lambda: GCN(GCNConfig(features=FEATURES, dim=16)),
    "NodeMLP": lambda: NodeMLP(NodeMLPConfig(features=FEATURES, widths=(16,), dim=8)),
    "AudioTransformer": lambda: AudioTransformer(
        AudioTransformerConfig(rate=8000, bands=20, channels=4, dim=16, depth=2, heads=2, kernel=5)
    ),
    "KmerBag": lambda: KmerBag(KmerBagConfig(dim=16, k=3)),
    "DnaTransformer": lambda: DnaTransformer.from_texts(
        items_of_dna(), DnaTransformerConfig(layers=2, width=32, heads=2, vocabulary=60, max_length=64)
    ),
    "SeriesEncoder": lambda: SeriesEncoder(SeriesConfig(channels=3, dim=16, width=16, layers=2, heads=2)),
    "TableTransformer": lambda: TableTransformer(with_columns(TableTransformerConfig(dim=16, layers=2, heads=2))),
    "ImageTable": lambda: ImageTable(
        TINY["ConvNet"](), TINY["TableTransformer"](), Interaction(16, 16, layers=1, heads=2)
    ),
    "Vectors": lambda: Vectors(VectorConfig(features=FEATURES, widths=(16,), dim=8)),
    "BagEncoder": lambda: BagEncoder(Vectors(VectorConfig(features=FEATURES, dim=8)), width=4),
    "PairEncoder": lambda: PairEncoder(TINY["TextTransformer"](), top=2, head="dot"),
    "Projected": lambda: Projected(StaticText.from_texts(texts(), StaticTextConfig(dim=16)), 8),
}
every = pytest.mark.parametrize("name", TINY)


def make(name: str) -> Encoder:
    torch.manual_seed(0)
    return TINY[name]()


def items_of_dna(n: int = 6) -> list[str]:
    rng = np.random.default_rng(2)
    return [dna(rng)[: 10 + 35 * i] for i in range(n)]


def items(encoder: Encoder, n: int = 6) -> list[Any]:
    """Items of very different lengths (texts), images, or nodes of a graph."""
    if encoder.modality == "graph":
        return graph()[:n]
    rng = np.random.default_rng(1)
    if isinstance(encoder, BagEncoder):
        return [[vector(rng) for _ in range(1 + 2 * i)] for i in range(n)]
    if encoder.modality == "vector":
        return [vector(rng) for _ in range(n)]
    if encoder.modality == "dna":
        return items_of_dna(n)
    if encoder.modality == "series":
        return list(rng.normal(size=(n, 24, 3)))
    if encoder.modality == "table":
        return [table(rng) for _ in range(n)]
    if encoder.modality == "image+table":
        return [{"image": image(rng), "table": table(rng)} for _ in range(n)]
    if encoder.modality == "audio":
        return [recording(rng, 0.05 + 0.2 * i) for i in range(n)]
    return [text(rng, 1 + 7 * i) if encoder.modality == "text" else image(rng) for i in range(n)]


def test_no_encoder_is_left_out() -> None:
    named = {name for name, cls in subclasses(package, Encoder).items() if cls.kind}  # a base has no kind
    assert named == set(TINY), "give the new encoder a tiny instance here"


@every
def test_shapes_dtype_and_length(name: str) -> None:
    encoder = make(name)
    z = encoder.encode(items(encoder))
    assert (z.shape, z.dtype) == ((6, encoder.dim), np.float32)
    if encoder.normalize:
        assert np.allclose(np.linalg.norm(z, axis=1), 1, atol=1e-5)


@every
def test_the_same_item_gives_the_same_vector_in_any_company_and_order(name: str) -> None:
    encoder = make(name)
    batch = items(encoder)
    whole = encoder.encode(batch)
    for i, item in enumerate(batch):
        assert np.abs(encoder.encode([item])[0] - whole[i]).max() <= 1e-6
    assert np.abs(encoder.encode(batch[::-1])[::-1] - whole).max() <= 1e-6
    assert np.abs(encoder.encode(batch, budget=1) - whole).max() <= 1e-6


@every
def test_encoding_leaves_the_mode_as_it_was_and_needs_no_items(name: str) -> None:
    encoder = make(name).train()
    assert encoder.encode([]).shape == (0, encoder.dim)
    encoder.encode(items(encoder, 1))
    assert encoder.training


@every
def test_every_parameter_moves(name: str) -> None:
    encoder = make(name).train()
    z = encoder(encoder.collate(items(encoder, 8)))
    (z * torch.randn_like(z)).sum().backward()
    still = [k for k, p in encoder.named_parameters() if p.requires_grad and p.grad is None]
    assert not still
    assert all(torch.isfinite(p.grad).all() for p in encoder.parameters() if p.grad is not None)


@every
def test_a_saved_encoder_comes_back_the_same(name: str, tmp_path: Path) -> None:
    encoder = make(name)
    encoder.encode(items(encoder))
    folder.save(encoder, tmp_path / "model")
    again = folder.load(tmp_path / "model")
    assert type(again) is type(encoder)
    assert again.dim == encoder.dim
    assert np.abs(again.encode(items(encoder)) - encoder.encode(items(encoder))).max() <= 1e-6
    assert not list(tmp_path.rglob("*.bin")) + list(tmp_path.rglob("*.pkl"))


@every
def test_difficult_items_do_not_break_it(name: str) -> None:
    encoder = make(name)
    texts: Sequence[Any] = ["", " ", "🦊 مرحبا 你好", "word " * 5000]
    difficult = texts if encoder.modality == "text" else items(encoder, 1)
    assert np.isfinite(encoder.encode(difficult)).all()
