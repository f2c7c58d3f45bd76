"""Every encoder passes these checks."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import counterpoint.encoders as package
from counterpoint.encoders import base, folder
from counterpoint.encoders.bag_attention import BagEncoder
from counterpoint.encoders.base import Encoder, build, choices, discover, made_by, picked
from counterpoint.encoders.prompts import ROLES
from counterpoint.encoders.wrapper import Around
from counterpoint.errors import ConfigError, DataError, ModelError, NotFiniteError
from counterpoint.modalities import base as modalities
from tests.conformance.discovery import subclasses
from tests.conformance.rows import WHOLE, source

pytest.importorskip("PIL")


def modality_of(cls: type[Encoder]) -> str:
    """The modality of a class; '' of one that has that of an encoder inside."""
    return cls.modality if isinstance(cls.modality, str) else ""


KINDS = {kind: cls for kind, cls in discover().items() if cls.__module__.startswith("counterpoint.")}
every = pytest.mark.parametrize(
    "kind", [pytest.param(kind, id=f"{modality_of(cls)}-{kind}") for kind, cls in KINDS.items()]
)


def make(kind: str) -> Encoder:
    return KINDS[kind].example(seed=0)


def items(encoder: Encoder, n: int = 6) -> list[Any]:
    """Items of unlike lengths, where they have any."""
    rng = np.random.default_rng(1)
    if isinstance(encoder, BagEncoder):
        return [[modalities.of(encoder.modality).example(rng) for _ in range(1 + 2 * i)] for i in range(n)]
    if encoder.modality in WHOLE:
        found = WHOLE[encoder.modality](1)
        return [row[key] for key in found.schema.modalities for row in found[:n]]
    return [modalities.of(encoder.modality).example(rng) for _ in range(n)]


def test_no_encoder_is_left_out() -> None:
    assert set(subclasses(package, Encoder).values()) - {Around} == set(KINDS.values()), "a new class needs a `kind`"


@pytest.mark.parametrize("modality", [*modalities.discover(), *(base.modalities() - modalities.discover().keys())])
def test_words_pick_the_encoders_of_a_modality(modality: str) -> None:
    """One class is the standard one, whose word comes first; each has a word of its own, and those that it shares are
    kept where a recipe asks for it."""
    of = [cls for cls in KINDS.values() if cls.choices and cls.modality == modality]
    assert modality in modalities.discover(), "encoders of a modality that has no file"
    assert sum(cls.standard for cls in of) == 1, f"one encoder of {modality} has to be the standard one"
    assert next(iter(choices(modality).values())).standard
    own = [cls.choices[0] for cls in of]
    assert len(set(own)) == len(own), "two classes claim a word as their own"
    for cls in of:
        assert all(picked(modality, word, cls.example().config) is cls for word in cls.choices)


@every
def test_an_example_follows_from_its_seed(kind: str) -> None:
    state = torch.get_rng_state()
    one, same, other = (KINDS[kind].example(seed).state_dict() for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)


@every
def test_it_is_built_from_its_configuration_and_rows(kind: str) -> None:
    cls = KINDS[kind]
    if not cls.choices:  # a method puts it around other encoders
        return
    config = cls.example().config
    assert made_by(config) is cls
    assert cls.configured(cls.choices[0], config) == config
    assert isinstance(build(config, source(cls.modality)), cls)


@every
def test_shapes_dtype_and_length(kind: str) -> None:
    encoder = make(kind)
    z = encoder.encode(items(encoder))
    assert (z.shape, z.dtype) == ((6, encoder.dim), np.float32)
    if encoder.normalize:
        assert np.allclose(np.linalg.norm(z, axis=1), 1, atol=1e-5)


@every
def test_the_same_item_gives_the_same_vector_in_any_company_and_order(kind: str) -> None:
    encoder = make(kind)
    batch = items(encoder)
    whole = encoder.encode(batch)
    for i, item in enumerate(batch):
        assert np.abs(encoder.encode([item])[0] - whole[i]).max() <= 1e-6
    assert np.abs(encoder.encode(batch[::-1])[::-1] - whole).max() <= 1e-6
    assert np.abs(encoder.encode(batch, budget=1) - whole).max() <= 1e-6


@every
def test_one_item_is_one_item(kind: str) -> None:
    encoder = make(kind)
    for item in items(encoder):
        alone = encoder.encode(item)
        assert alone.shape == (encoder.dim,)
        assert np.abs(alone - encoder.encode([item])[0]).max() == 0


@every
def test_what_is_no_item_is_named_with_its_place(kind: str) -> None:
    encoder = make(kind)
    good = items(encoder, 5)
    for wrong in (object(), None, 3.5):
        with pytest.raises(DataError, match=r"\b3\b"):
            encoder.encode([*good[:3], wrong, *good[3:]])
    for wrong in (None, 3.5, {1, 2}):
        with pytest.raises(DataError):
            encoder.encode(wrong)


@every
def test_a_role_that_there_is_none_of_is_refused_with_those_there_are(kind: str) -> None:
    encoder = make(kind)
    some = items(encoder, 2)
    for role in (None, *ROLES):
        assert encoder.encode(some, role=role).shape == (2, encoder.dim)
    with pytest.raises((ConfigError, DataError), match=r"role='qurey'.* knows query, document.*Did you mean 'query'"):
        encoder.encode(some, role="qurey")
    with pytest.raises((ConfigError, DataError), match="role='none'"):
        encoder.encode(some, role="none")


@every
def test_embeddings_that_are_not_finite_are_refused(kind: str) -> None:
    encoder = make(kind)
    parameters = [p for p in encoder.parameters() if p.ndim > 1]
    if not parameters:  # vectors as they are: nothing in them can be broken
        return
    with torch.no_grad():
        for parameter in parameters:
            parameter.fill_(float("nan"))
    with pytest.raises(
        NotFiniteError, match=rf"The {re.escape(encoder.modality)} encoder \({kind}\).*not finite \(\w+"
    ):
        encoder.encode(items(encoder, 2))


@every
def test_encoding_leaves_the_mode_as_it_was_and_needs_no_items(kind: str) -> None:
    encoder = make(kind).train()
    assert encoder.encode([]).shape == (0, encoder.dim)
    encoder.encode(items(encoder, 1))
    assert encoder.training


@every
def test_every_parameter_moves(kind: str) -> None:
    encoder = make(kind).train()
    z = encoder(encoder.collate(items(encoder, 8)))
    (z * torch.randn_like(z)).sum().backward()
    still = [k for k, p in encoder.named_parameters() if p.requires_grad and p.grad is None]
    assert not still
    assert all(torch.isfinite(p.grad).all() for p in encoder.parameters() if p.grad is not None)


@every
def test_a_saved_encoder_comes_back_the_same(kind: str, tmp_path: Path) -> None:
    encoder = make(kind)
    encoder.encode(items(encoder))
    folder.save(encoder, tmp_path / "model")
    again = folder.load(tmp_path / "model")
    assert type(again) is type(encoder)
    assert again.dim == encoder.dim
    assert np.abs(again.encode(items(encoder)) - encoder.encode(items(encoder))).max() <= 1e-6
    assert not list(tmp_path.rglob("*.bin")) + list(tmp_path.rglob("*.pkl"))


@every
def test_difficult_items_do_not_break_it(kind: str) -> None:
    encoder = make(kind)
    texts: Sequence[Any] = ["", " ", "🦊 مرحبا 你好", "word " * 5000]
    difficult = texts if encoder.modality == "text" else items(encoder, 1)
    assert np.isfinite(encoder.encode(difficult)).all()


@every
def test_as_a_function_of_tensors_it_gives_the_same_embeddings(kind: str) -> None:
    """What an ONNX file holds, see `tests/encoders/test_export.py`: or a sentence says why there is none."""
    encoder = make(kind).eval()
    traced, refusal = None, ""
    try:
        traced = encoder.traced()
    except ModelError as error:
        refusal = str(error)
    assert (traced is None) == ("has no ONNX form: " in refusal)
    if traced is None:
        return
    data = traced.example
    assert data is not None
    assert len(traced.inputs(data)) == len(traced.names)
    assert torch.allclose(traced.forward(*traced.inputs(data)), encoder(data), atol=1e-6)
    batch = encoder.collate(items(encoder))
    assert torch.allclose(traced.forward(*traced.inputs(batch)), encoder(batch), atol=1e-6)
