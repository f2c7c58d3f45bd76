"""Both losses written out; who gets which gradient; padding and what is visible take part in no target."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from counterpoint.data.batch import Batch, View
from counterpoint.data.schema import Schema
from counterpoint.encoders.audio import AudioTransformer, AudioTransformerConfig
from counterpoint.encoders.states import MaskedFrames
from counterpoint.errors import ConfigError, DataError
from counterpoint.methods.signals.w2v_bert import Config, W2vBert
from counterpoint.methods.vision.obow import OBoW
from counterpoint.modalities.audio import Recording
from counterpoint.workflow.choose import check

SMALL = AudioTransformerConfig(rate=8000, bands=16, channels=4, dim=16, depth=3, heads=2, kernel=5)
TINY = {"split": 2, "codes": 6, "width": 8, "projection": 8, "distractors": 0, "span": 2, "least": 3, "seconds": 1.0}


def build(seed=0, **settings):
    torch.manual_seed(seed)
    return W2vBert(AudioTransformer(SMALL), Config(**(TINY | settings)))


def rows(seconds=(0.5, 0.9, 0.3), seed=0):
    rng = np.random.default_rng(seed)
    heard = [Recording(rng.normal(size=int(8000 * s)).astype(np.float32), 8000) for s in seconds]
    return [{"audio": x, "row": i} for i, x in enumerate(heard)]


def batch_of(method, seed=1, **given):
    return method.views(rows(**given), np.random.default_rng(seed))


def losses(method, batch, seed=5):
    torch.manual_seed(seed)
    return method.losses(batch)


@pytest.mark.parametrize("distractors", [0, 40])
def test_the_losses_written_out(distractors):
    method = build(distractors=distractors, contrastive=0.7, diversity=0.3, prediction=1.3)
    batch = batch_of(method)
    found = losses(method, batch)
    # The same random numbers in the same order: of the mask, of the codes, of the distractors.
    torch.manual_seed(5)
    data, encoder = batch.views[0].data, method.encoder
    hidden = data["hidden"]
    e, mask = encoder.features(data)
    x = torch.where(hidden.unsqueeze(-1), 0.1 * torch.randn_like(e), e)
    blocks = encoder.layers(x, mask)
    logits = F.linear(e[hidden], method.quantiser.into.weight, method.quantiser.into.bias)
    noise = -torch.empty_like(logits.unsqueeze(1)).exponential_().log().squeeze(1)
    code = ((logits + noise) / 2.0).argmax(-1)
    q = F.normalize(method.code(method.quantiser.entries[0][code]), dim=-1)
    c = F.normalize(method.context(blocks[1][hidden]), dim=-1)
    owner = hidden.nonzero()[:, 0]
    terms = []
    if distractors:
        from counterpoint.objectives.codes import others_of_group

        whose, drawn = others_of_group(owner, distractors)
    for i in range(len(c)):
        others = drawn[whose == i] if distractors else (owner == owner[i]).nonzero()[:, 0]
        others = others[code[others] != code[i]]
        scores = torch.cat([c[i] @ q[i].unsqueeze(-1), q[others] @ c[i]]) / 0.1
        if len(others):
            terms.append(scores.logsumexp(0) - scores[0])
    p = logits.softmax(-1).mean(0)
    torch.testing.assert_close(found["contrast"], 0.7 * torch.stack(terms).mean())
    torch.testing.assert_close(found["diversity"], 0.3 * (6 - torch.exp(-(p * p.log()).sum())) / 6)
    torch.testing.assert_close(found["prediction"], 1.3 * F.cross_entropy(method.names(blocks[2][hidden]), code))


def gradient(loss, parameters):
    return torch.autograd.grad(loss, parameters, allow_unused=True, retain_graph=True)


def test_prediction_does_not_teach_the_quantiser_unless_it_may():
    for target_grad in (False, True):
        method = build(target_grad=target_grad)
        found = losses(method, batch_of(method))
        weight = method.quantiser.into.weight
        (of_prediction,) = gradient(found["prediction"], [weight])
        assert (of_prediction is not None and bool(of_prediction.abs().max() > 0)) == target_grad
        assert all(gradient(found[name], [weight])[0].abs().max() > 0 for name in ("contrast", "diversity"))


def test_the_front_may_be_kept_from_the_quantisers_gradient():
    for share in (0.0, 0.1, 1.0):
        method = build(front_grad=share)
        (found,) = gradient(losses(method, batch_of(method))["diversity"], [method.encoder.front[0].weight])
        if share == 0.0:
            assert not found.any()
        elif share == 0.1:
            tenth = found
        else:
            torch.testing.assert_close(tenth, 0.1 * found)


def test_contrast_stands_on_the_lower_blocks_and_prediction_on_all():
    method = build()
    found = losses(method, batch_of(method))
    lower, upper = method.encoder.blocks[1].attention.out.weight, method.encoder.blocks[2].attention.out.weight
    assert gradient(found["contrast"], [upper])[0] is None or not gradient(found["contrast"], [upper])[0].any()
    assert gradient(found["contrast"], [lower])[0].any()
    assert all(g.any() for g in gradient(found["prediction"], [lower, upper]))


def test_what_is_hidden_does_not_reach_the_blocks():
    method = build()
    batch = batch_of(method)
    data = batch.views[0].data
    e, mask = method.encoder.features(data)
    noise = 0.1 * torch.randn_like(e)
    blocks = method.encoder.layers(torch.where(data["hidden"].unsqueeze(-1), noise, e), mask)
    found = MaskedFrames(method.encoder, 2, data["hidden"].shape[1])(dict(data, noise=noise))
    torch.testing.assert_close(found[..., : method.encoder.width], e)  # the quantiser sees what was there
    torch.testing.assert_close(found[..., -16:], blocks[2])


def test_padding_is_never_hidden_and_changes_nothing():
    method = build(diversity=1.0)
    batch = batch_of(method)
    data = batch.views[0].data
    _, mask = method.encoder.features(data)
    assert not (data["hidden"] & ~mask).any()
    assert (data["hidden"].sum(1) >= 2).all()
    noisy = dict(data, frames=data["frames"].masked_fill(~data["attention_mask"].unsqueeze(-1), 9.0))
    other = Batch((View(noisy, "audio"),), batch.rows)
    one, two = losses(method, batch), losses(method, other)
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_micro_batches_give_the_same_frames():
    method = build().eval()  # without noise in the choice of codes
    batch = batch_of(method, seconds=(0.5, 0.9, 0.3, 0.2))
    encoder, places = method.encoder, batch.views[0].data["hidden"].shape[1]
    frames = MaskedFrames(encoder, 2, places)
    e, real = encoder.features(batch.views[0].data)
    data = dict(batch.views[0].data, noise=torch.zeros_like(e))
    whole = method.embed(frames, data)
    method.micro_batch = 2
    parts = method.embed(frames, data)
    torch.testing.assert_close(parts[real], whole[real], atol=1e-5, rtol=1e-4)


def test_the_arms_leave_a_loss_out():
    method = build()
    assert set(losses(method, batch_of(method))) == {"contrast", "diversity", "prediction"}
    alone = build(prediction=0.0)
    assert set(losses(alone, batch_of(alone))) == {"contrast", "diversity"}
    assert alone.split == 3
    assert set(losses(build(contrastive=0.0), batch_of(method))) == {"diversity", "prediction"}


def test_codes_collapse_where_prediction_may_choose_them_and_nothing_holds_them():
    method = build(contrastive=0.0, diversity=0.0, target_grad=True, temperature=0.5, coldest=0.5).train()
    optimizer = torch.optim.Adam(method.parameters(), lr=2e-2)
    torch.manual_seed(0)
    for step in range(60):
        optimizer.zero_grad()
        sum(method.losses(batch_of(method, seed=step)).values()).backward()
        optimizer.step()
    assert float(method.observed["code_perplexity"]) < 1.2
    assert float(method.losses(batch_of(method, seed=99))["prediction"].detach()) < 0.2  # and the task is trivial


def test_a_collapse_is_said():
    method = build(codes=100)
    method._perplexity = torch.tensor(1.5)
    with pytest.warns(UserWarning, match=r"perplexity is 1\.5 of 100"):
        method.after_step(100)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        method.after_step(101)
        method._perplexity = torch.tensor(50.0)
        method.after_step(200)


def test_the_temperature_cools_with_the_steps_and_is_saved():
    method = build(temperature=2.0, cooling=0.5, coldest=0.1)
    method.after_step(1)
    other = build(seed=1)
    other.load_state_dict(method.state_dict())
    assert float(other.quantiser.temperature) == 1.0


def test_recordings_too_short_to_hide_a_part_of_are_refused():
    method = build()
    with pytest.raises(DataError, match="of which 2 could be hidden"):
        batch_of(method, seconds=(0.02, 0.01))
    mixed = batch_of(method, seconds=(0.02, 0.5))
    assert mixed.views[0].data["hidden"].sum(1).tolist()[0] == 0
    assert all(torch.isfinite(v) for v in losses(method, mixed).values())


def test_long_recordings_are_cut_at_random():
    method = build(seconds=0.25)
    found = batch_of(method, seconds=(3.0, 0.1))
    assert found.views[0].data["frames"].shape[1] == 26
    other = batch_of(method, seed=2, seconds=(3.0, 0.1))
    assert not torch.equal(found.views[0].data["frames"], other.views[0].data["frames"])


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"split": 3}, "split=3"),
        ({"contrastive": 0.0, "prediction": 0.0}, "one of contrastive and prediction"),
        ({"diversity": -1.0}, "0 or more"),
        ({"kappa": 0.0}, "kappa=0.0"),
    ],
)
def test_settings_that_do_not_work_are_refused(settings, said):
    with pytest.raises(ConfigError, match=said):
        build(**settings)


def test_rows_of_another_kind_are_refused():
    labelled = Schema(kind="labelled", columns={"audio": "audio", "label": "label"}, modalities={"audio": "audio"})
    with pytest.raises(ConfigError, match="needs recordings"):
        check(W2vBert, labelled)
    images = Schema(kind="items", columns={"image": "image"}, modalities={"image": "image"})
    with pytest.raises(ConfigError, match="learns from audio"):
        check(W2vBert, images)
    recordings = replace(images, columns={"audio": "audio"}, modalities={"audio": "audio"})
    with pytest.raises(ConfigError, match="learns from image"):
        check(OBoW, recordings)
