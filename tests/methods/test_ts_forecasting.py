"""The forecast's error and the contrast, written out; their weights; keys, queue and times."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from counterpoint.data.windows import Windows
from counterpoint.encoders.series import SeriesConfig, SeriesEncoder, of_series
from counterpoint.errors import ConfigError, DataError
from counterpoint.methods.signals.ts_forecasting import Config, TSForecasting
from counterpoint.objectives.series import frequency_contrast, hierarchical_contrast
from tests.conformance.rows import series

ROWS = Windows(series(), length=12, horizon=5)
BACKBONE = SeriesConfig(layers=1, width=8, dim=8, heads=2, feedforward=8, dropout=0.0)


def build(backbone="transformer", seed=0, **settings):
    torch.manual_seed(seed)
    config = Config(**{"length": 12, "horizon": 5, "queue": 20, "temperature": 0.2, **settings})
    encoder = SeriesEncoder(of_series(SeriesConfig(**{**vars_of(BACKBONE), "backbone": backbone}), series()))
    return TSForecasting(encoder, config).train()


def vars_of(config):
    return {name: getattr(config, name) for name in ("layers", "width", "dim", "heads", "feedforward", "dropout")}


def views(method, n=6, seed=1):
    return method.views(ROWS[:n], np.random.default_rng(seed))


def error(method, batch):
    past, future = Windows(ROWS.series, length=12, horizon=5).arrays(slice(0, len(batch)))
    predicted = method.encoder.decoder(method.encoder.steps(torch.from_numpy(past))[:, 7:])
    return ((predicted - torch.from_numpy(future)) ** 2).mean()


def test_the_error_alone_written_out():
    method = build(contrast="none")
    batch = views(method)
    losses = method.losses(batch)
    assert list(losses) == ["forecast"]
    torch.testing.assert_close(losses["forecast"], error(method, batch))
    assert [view.role for view in batch.views] == ["anchor"]


def test_moco_written_out():
    method = build(weight=0.3)
    batch = views(method)
    losses = method.losses(batch)
    torch.testing.assert_close(losses["forecast"], 0.7 * error(method, batch))
    t = int(batch.labels["time"][0])
    with torch.no_grad():
        z = method.encoder.steps(batch.one("anchor").data["values"])[:, t]
        # The teacher is a copy as yet: keys are what the encoder makes of the other view.
        k = method.encoder.steps(batch.one("positive").data["values"])[:, t]
        q, k = (F.normalize(method.query.head(x), dim=1) for x in (z, k))
        logits = torch.cat(((q * k).sum(1, keepdim=True), q @ method.queue.vectors.T), dim=1) / 0.2
    expected = F.cross_entropy(logits, torch.zeros(6, dtype=torch.long))
    torch.testing.assert_close(losses["moco"], 0.3 * expected)


def test_every_key_has_unit_length_and_enters_after_the_step():
    method = build()
    before = method.queue.snapshot()
    method.losses(views(method))
    assert torch.equal(method.queue.snapshot(), before)
    method.after_step(1)
    after = method.queue.snapshot()
    assert (after != before).any(1).sum() == 6
    torch.testing.assert_close(after.norm(dim=1), torch.ones(20))


def test_a_batch_of_any_size_enters_the_queue():
    method = build(queue=7)
    for n in (6, 3, 5):
        method.losses(views(method, n))
        method.after_step(1)
    assert len(method.queue.snapshot()) == 7


def test_no_gradient_reaches_the_keys():
    method = build()
    sum(method.losses(views(method)).values()).backward()
    assert all(p.grad is None for p in (*method.teacher.parameters(), *method.key.parameters()))
    assert method.query.head[0].weight.grad.any()


def test_the_teachers_follow():
    method = build(momentum=0.9)
    old = method.teacher.model.embedding.weight.clone()
    with torch.no_grad():
        for p in method.parameters():
            p.add_(1.0) if p.requires_grad else None
    method.losses(views(method))
    method.after_step(1)
    torch.testing.assert_close(method.teacher.model.embedding.weight, old + 0.1)
    assert (method.key.model.head[0].weight != method.query.head[0].weight).any()


def test_one_time_for_all_and_another_next_time():
    method = build()
    times = [views(method, seed=s).labels["time"] for s in range(8)]
    assert all(len(set(t.tolist())) == 1 for t in times)
    assert len({int(t[0]) for t in times}) > 1


def test_the_mean_over_time_can_be_asked_for():
    method = build(query="mean", weight=1.0)
    batch = views(method)
    with torch.no_grad():
        z = method.encoder.steps(batch.one("anchor").data["values"]).mean(1)
        found = F.normalize(method.query.head(z), dim=1)
    method.losses(batch)
    torch.testing.assert_close(method.observed["anchor"], found)


def test_keys_see_another_view_and_forecasts_do_not():
    batch = views(build())
    past = torch.from_numpy(ROWS.arrays(slice(0, 6))[0])
    torch.testing.assert_close(batch.one("anchor").data["values"], past)
    assert not torch.equal(batch.one("positive").data["values"], past)
    plain = views(build(augment=False))
    torch.testing.assert_close(plain.one("positive").data["values"], past)


@pytest.mark.parametrize("alpha", [0.0, 0.2, 1.0])
def test_the_hierarchy_takes_its_alpha(alpha):
    method = build(contrast="hierarchical", alpha=alpha, weight=0.4)
    batch = views(method)
    one, two = (method.encoder.steps(v.data["values"], v.data["keep"]) for v in batch.all("context"))
    expected = 0.4 * hierarchical_contrast(one, two, alpha=alpha)
    torch.testing.assert_close(method.losses(batch)["hierarchical"], expected)
    assert not hasattr(method, "queue")


def test_both_halves_count():
    losses = {c: build(contrast=c, weight=0.6).losses(views(build(contrast="both"))) for c in ("moco", "hierarchical")}
    both = build(contrast="both", weight=0.6).losses(views(build(contrast="both")))
    torch.testing.assert_close(both["hierarchical"], losses["hierarchical"]["hierarchical"] / 2)
    torch.testing.assert_close(both["moco"], losses["moco"]["moco"] / 2)
    assert both["hierarchical"] > 0


def test_cost_adds_the_seasons():
    method = build(contrast="cost", season_weight=0.01)
    batch = views(method)
    losses = method.losses(batch)
    assert set(losses) == {"forecast", "moco", "season"}
    one, two = (
        F.normalize(method.season(method.encoder.steps(batch.one(role).data["values"])), dim=2)
        for role in ("anchor", "positive")
    )
    torch.testing.assert_close(losses["season"], 0.5 * 0.01 * frequency_contrast(one, two))
    assert [c.kernel_size[0] for c in method.query.trend.convolutions] == [1, 2, 4, 8]
    sum(losses.values()).backward()
    assert method.season.weight.grad.any()


def test_weight_zero_is_the_error_alone_and_one_the_contrast_alone():
    for settings in ({"weight": 0.0}, {"contrast": "none", "weight": 1.0}):
        method = build(**settings)
        assert list(method.losses(views(method))) == ["forecast"]
        assert not any(name.startswith(("query", "teacher")) for name, _ in method.named_parameters())
    alone = build(weight=1.0)
    assert list(alone.losses(views(alone))) == ["moco"]
    assert alone.encoder.decoder is None
    assert not alone.encoder.config.decoder


def test_an_embedding_is_that_of_the_encoder():
    method = build().eval()
    with torch.no_grad():
        z = method.encode(views(method)).numpy()
    np.testing.assert_allclose(z, method.encoder.encode([row["series"] for row in ROWS[:6]]), atol=1e-6)


def test_what_cannot_work_is_refused():
    with pytest.raises(ConfigError, match="1 <= horizon <= length"):
        Config(length=24, horizon=25)
    with pytest.raises(ConfigError, match="from 0"):
        Config(weight=1.5)
    with pytest.raises(ConfigError, match="moco, hierarchical, both, cost, none"):
        Config(contrast="simclr")
    with pytest.raises(DataError, match="these settings need 13 and 5"):
        build(length=13).views(ROWS[:2], np.random.default_rng(0))
