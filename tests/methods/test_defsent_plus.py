"""DefSent+: the softmax over entries written out, frozen targets, rounds that start from the original weights."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from torch.nn import functional as F

from counterpoint.data.glossary import Glossary
from counterpoint.data.loader import Loader
from counterpoint.data.rows import Rows
from counterpoint.data.schema import Schema
from counterpoint.errors import ConfigError, DataError
from counterpoint.methods.text.defsent_plus import Config, DefSentPlus
from counterpoint.train.config import TrainConfig
from counterpoint.train.loop import Trainer
from tests.encoders.samples import static, transformer
from tests.toys import Vectors

RNG = np.random.default_rng(0)

ROWS = [
    {"anchor": "cat", "positive": "a cat sat on the mat", "row": 0},
    {"anchor": "dog", "positive": "the dog and the cat", "row": 1},
    {"anchor": " cat ", "positive": "voices in counterpoint", "row": 2},
    {"anchor": "mat", "positive": "on the mat", "row": 3},
    {"anchor": "voice", "positive": "two or more voices", "row": 4},
]


def built(**settings: Any) -> DefSentPlus:
    torch.manual_seed(0)
    method = DefSentPlus(static(), Config(**{"rounds": 1, "isotropic": False, **settings}))
    method.read(ROWS)
    return method


def table(rows: list[dict[str, Any]]) -> Rows:
    found = Dataset.from_dict({k: [r[k] for r in rows] for k in ("anchor", "positive")})
    parts = {"anchor": "anchor", "positive": "positive"}
    return Rows(found, Schema(kind="pairs", columns=dict(parts), modalities=dict.fromkeys(parts, "text")))


def trained(method: DefSentPlus, *, steps: int = 4, rows: list[dict[str, Any]] = ROWS) -> DefSentPlus:
    config = TrainConfig(batch=2, steps=steps, lr=0.05, device="cpu", progress=False, stop_on_collapse=False)
    given = table(rows)
    sampler = method.sampler(given, config)
    assert sampler is not None
    Trainer(method, Loader(given, sampler), config).fit()
    return method


def test_targets_are_means_of_definitions_in_eval_mode_and_frozen() -> None:
    method = built().train()
    method.before_round(0)
    z = torch.from_numpy(method.encoder.encode([r["positive"] for r in ROWS], normalize=False))
    expected = torch.stack([(z[0] + z[2]) / 2, z[1], z[3], z[4]])
    torch.testing.assert_close(method.targets, expected)
    assert not method.targets.requires_grad
    assert "targets" not in dict(method.named_parameters())


def test_the_loss_written_out_over_all_entries() -> None:
    method = built(scale=3.0)
    method.before_round(0)
    some = [ROWS[i] for i in (4, 2, 1)]  # fewer rows than entries, in another order
    with torch.no_grad():
        method.pooler[0].weight.normal_()
        z = torch.from_numpy(method.encoder.encode([r["positive"] for r in some], normalize=False))
        h = torch.tanh(z @ method.pooler[0].weight.T + method.pooler[0].bias)
        expected = F.cross_entropy(3 * h @ method.targets.T, torch.tensor([3, 0, 1]))
    found = method.losses(method.views(some, RNG))["entries"]
    torch.testing.assert_close(found, expected)


def test_a_definition_of_two_entries_is_averaged_and_not_learned_from() -> None:
    rows = [*ROWS, {"anchor": "rug", "positive": "on the mat ", "row": 5}]
    method = built()
    with pytest.warns(UserWarning, match="1 of 5 definitions stand under several entries"):
        glossary = method.read(rows)
    assert glossary.entry("on the mat") == -1
    assert (glossary.size, len(glossary.owners)) == (5, 6)
    method.before_round(0)
    torch.testing.assert_close(method.targets[2], method.targets[4])
    batch = method.views([rows[3], rows[5]], RNG)
    loss = method.losses(batch)["entries"]
    assert loss == 0
    one = method.losses(method.views([rows[0]], RNG))["entries"]
    torch.testing.assert_close(method.losses(method.views([rows[0], rows[3]], RNG))["entries"], one)


def test_rounds_restart_bit_for_bit_with_targets_made_anew() -> None:
    method = built(rounds=2)
    start = copy.deepcopy({k: v for k, v in method.state_dict().items() if k.startswith(("encoder", "pooler"))})
    seen: dict[int, Any] = {}
    before = method.before_round

    def watched(number: int) -> None:
        moved = copy.deepcopy(method.encoder)
        before(number)
        seen[number] = (moved, copy.deepcopy(method.state_dict()))

    method.before_round = watched  # type: ignore[method-assign]
    trained(method, steps=4)
    for number in (0, 1):
        assert all(torch.equal(seen[number][1][k], v) for k, v in start.items())
    moved, state = seen[1]
    assert not torch.equal(moved.table, start["encoder.table"])
    z = torch.from_numpy(moved.encode([r["positive"] for r in ROWS], normalize=False))
    torch.testing.assert_close(state["targets"], torch.stack([(z[0] + z[2]) / 2, z[1], z[3], z[4]]))
    assert not torch.equal(state["targets"], seen[0][1]["targets"])
    assert all(not p.requires_grad for p in method.original.parameters())  # type: ignore[union-attr]


def test_the_last_round_alone_is_isotropic() -> None:
    rows = [{"anchor": str(i), "positive": v, "row": i} for i, v in enumerate(RNG.laplace(size=(40, 3)).tolist())]
    method = DefSentPlus(Vectors(3), Config(rounds=2))
    glossary = Glossary([])
    glossary.definitions, glossary.size = [r["positive"] for r in rows], 40
    glossary.owners = np.stack([np.arange(40)] * 2, 1)
    method.glossary, method.targets = glossary, torch.zeros(40, 3)
    method.before_round(0)
    torch.testing.assert_close(method.targets, torch.tensor([r["positive"] for r in rows]))
    method.before_round(1)
    covariance = method.targets.T @ method.targets / 40
    torch.testing.assert_close(covariance, 100.0**2 * torch.eye(3), rtol=1e-4, atol=1)


def test_random_targets_are_as_long_as_the_averages() -> None:
    method, same = built(), built(targets="random")
    for m in (method, same):
        m.before_round(0)
    torch.testing.assert_close(same.targets.norm(dim=1), method.targets.norm(dim=1))
    assert F.cosine_similarity(same.targets, method.targets).abs().max() < 0.9


def test_it_learns_on_a_transformer_too() -> None:
    torch.manual_seed(0)
    method = DefSentPlus(transformer(pooling="cls"), Config(rounds=2, isotropic=False, pooler="gelu"))
    before = method.encoder.encode(["the dog"])
    trained(method, steps=4)
    assert not np.allclose(before, method.encoder.encode(["the dog"]))


def test_prompts_are_read_at_their_mask_while_training_or_afterwards() -> None:
    template = "the dog {} [MASK] ."
    rows, texts = ROWS[:3], [r["positive"] for r in ROWS[:3]]
    trains = DefSentPlus(transformer(), Config(rounds=1, isotropic=False, pooling="prompt", template=template))
    trains.read(ROWS)
    trains.before_round(0)
    encoder = trains.encoder
    data = encoder.collate(texts)  # type: ignore[attr-defined]
    at = [row.index(encoder.tokenizer.mask_token_id) for row in data["input_ids"].tolist()]  # type: ignore[attr-defined]
    z = encoder.hidden_states(data, last=True)[0][torch.arange(3), at]  # type: ignore[attr-defined]
    expected = F.cross_entropy(torch.tanh(z) @ trains.targets.T, torch.tensor([0, 1, 0]))
    torch.testing.assert_close(trains.eval().losses(trains.views(rows, RNG))["entries"], expected)
    assert trains.towers()["text"] is encoder

    later = DefSentPlus(transformer(), Config(after="prompt", template=template))
    given = later.towers()["text"]
    np.testing.assert_allclose(given.encode(texts), encoder.encode(texts), atol=1e-6)
    assert abs(later.encoder.encode(texts) - given.encode(texts)).max() > 1e-2
    with torch.no_grad():
        next(later.encoder.parameters()).normal_()
    assert abs(given.encode(texts) - encoder.encode(texts)).max() > 1e-3  # the same weights
    for settings in ({"pooling": "prompt"}, {"after": "prompt"}):
        with pytest.raises(ConfigError, match="StaticText is none"):
            DefSentPlus(static(), Config(**settings))


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"pooling": "prompts"}, "no pooling 'prompts'"),
        ({"template": "{} means"}, "where its embedding is read"),
        ({"rounds": 0}, "rounds=0"),
        ({"iterations": 0}, "iterations=0"),
        ({"scale": 0.0}, "scale"),
        ({"targets": "words"}, "definitions or random"),
        ({"pooler": "relu"}, "tanh"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, Any], why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        Config(**settings)


def test_glossaries_that_cannot_be() -> None:
    with pytest.raises(DataError, match="4 entries cannot be made isotropic in 16 dimensions"):
        built(isotropic=True)
    with pytest.raises(DataError, match="1 entry"):
        DefSentPlus(static(), Config(rounds=1, isotropic=False)).read(ROWS[:1])


def test_without_a_glossary_a_batch_is_all_there_is_and_that_is_said() -> None:
    method = DefSentPlus(static(), Config(rounds=1, isotropic=False))
    with pytest.warns(UserWarning, match="No glossary was read"):
        method.before_round(0)
    alone = method.losses(method.views(ROWS, RNG))["entries"]
    whole = built()
    whole.before_round(0)
    torch.testing.assert_close(alone, whole.losses(whole.views(ROWS, RNG))["entries"])
