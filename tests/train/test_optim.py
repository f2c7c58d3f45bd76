import copy
import warnings

import pytest
import torch
from torch import nn

from counterpoint.errors import ConfigError
from counterpoint.train.config import TrainConfig
from counterpoint.train.optim import LARS, build_optimizer, sam_gradient, sam_step, set_lr


def model():
    torch.manual_seed(0)
    return nn.ModuleDict({"body": nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4)), "head": nn.Linear(4, 2)})


def settings(module, optimizer):
    """name -> (rate, weight decay)"""
    names = {id(p): name for name, p in module.named_parameters()}
    return {names[id(p)]: (g["lr"], g["weight_decay"]) for g in optimizer.param_groups for p in g["params"]}


# --- groups ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["adamw", "sgd", "lars"])
def test_vectors_are_not_decayed_and_the_first_expression_wins(kind):
    net = model()
    config = TrainConfig(optimizer=kind, lr=0.5, weight_decay=0.1, groups={r"^head\.bias": 3.0, "head": 0.1})
    assert settings(net, build_optimizer(net, config)) == {
        "body.0.weight": (0.5, 0.1),
        "body.0.bias": (0.5, 0),
        "body.1.weight": (0.5, 0),
        "body.1.bias": (0.5, 0),
        "head.weight": (0.05, 0.1),
        "head.bias": (1.5, 0),
    }


def test_factor_zero_freezes():
    net = model()
    optimizer = build_optimizer(net, TrainConfig(groups={"body": 0}))
    assert set(settings(net, optimizer)) == {"head.weight", "head.bias"}
    assert not any(p.requires_grad for p in net["body"].parameters())


def test_bad_groups_are_a_sentence():
    with pytest.raises(ConfigError, match=r"'encoder' matches no parameter. There are: body.0.weight"):
        build_optimizer(model(), TrainConfig(groups={"encoder": 0.1}))
    with pytest.raises(ConfigError, match="not a regular expression"):
        build_optimizer(model(), TrainConfig(groups={"(": 0.1}))
    with pytest.raises(ConfigError, match="no trainable parameter left"):
        build_optimizer(model(), TrainConfig(groups={"": 0}))
    with pytest.raises(ConfigError, match="is -1"):
        build_optimizer(model(), TrainConfig(groups={"head": -1}))
    with pytest.warns(UserWarning, match="'head.bias' has no effect"):
        build_optimizer(model(), TrainConfig(groups={"head": 0.1, "head.bias": 2.0}))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        build_optimizer(model(), TrainConfig(groups={"head.bias": 2.0, "head": 0.1}))


def test_rate_follows_the_factor_and_survives_a_checkpoint():
    net = model()
    config = TrainConfig(lr=0.5, groups={"head": 0.1})
    optimizer = build_optimizer(net, config)
    set_lr(optimizer, 0.25)
    assert settings(net, optimizer)["head.weight"][0] == pytest.approx(0.0125)
    again = build_optimizer(net, config)
    again.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    set_lr(again, 1.0)
    assert settings(net, again)["head.weight"][0] == pytest.approx(0.05)


def test_adamw_is_the_field_s():
    """Fused and plain agree, and fused gives the same bits twice."""
    nets = [model() for _ in range(3)]
    config = TrainConfig(lr=0.01, weight_decay=0.1)
    optimizers = [build_optimizer(net, config) for net in nets[:2]]
    assert all(o.defaults["fused"] for o in optimizers)
    decayed = [p for p in nets[2].parameters() if p.dim() >= 2]
    plain = [p for p in nets[2].parameters() if p.dim() < 2]
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": plain, "weight_decay": 0.0}]
    optimizers.append(torch.optim.AdamW(groups, lr=0.01, foreach=False))
    for step in range(5):
        x = torch.randn(6, 3, generator=torch.Generator().manual_seed(step))
        for net, optimizer in zip(nets, optimizers):
            optimizer.zero_grad()
            net["head"](net["body"](x)).square().sum().backward()
            optimizer.step()
    for a, b, c in zip(*(net.parameters() for net in nets)):
        assert torch.equal(a, b)
        assert torch.allclose(a, c, atol=1e-6)


# --- LARS ------------------------------------------------------------------------------------------------------------


def test_lars_by_hand():
    w = nn.Parameter(torch.tensor([[3.0, 4.0]], dtype=torch.float64))
    optimizer = LARS([w], lr=2.0, momentum=0.5, weight_decay=0.1, trust=0.01, eps=0.0)
    start, g = w.detach().clone(), torch.tensor([[0.0, 2.0]], dtype=torch.float64)
    w.grad = g.clone()
    optimizer.step()
    v = 2.0 * (0.01 * 5 / (2 + 0.1 * 5)) * (g + 0.1 * start)
    assert torch.allclose(w, start - v)
    second = w.detach().clone()
    optimizer.param_groups[0]["lr"] = 1.0
    optimizer.step()
    v = 0.5 * v + 1.0 * (0.01 * second.norm() / (2 + 0.1 * second.norm())) * (g + 0.1 * second)
    assert torch.allclose(w, second - v)


def test_lars_ignores_the_size_of_the_gradient_but_not_for_biases():
    net = nn.Linear(2, 2)
    config = TrainConfig(optimizer="lars", lr=0.1, weight_decay=0.0)
    steps = []
    for scale in (1.0, 100.0):
        copied = copy.deepcopy(net)
        optimizer = build_optimizer(copied, config)
        (scale * copied(torch.ones(1, 2)).sum()).backward()
        optimizer.step()
        steps.append([a.detach() - b.detach() for a, b in zip(net.parameters(), copied.parameters())])
    assert torch.allclose(steps[0][0], steps[1][0], rtol=1e-3)
    assert torch.allclose(100 * steps[0][1], steps[1][1], rtol=1e-3)


def test_lars_moves_a_weight_of_zeros():
    w = nn.Parameter(torch.zeros(2, 2))
    w.grad = torch.ones(2, 2)
    LARS([w], lr=0.1).step()
    assert torch.allclose(w, torch.full((2, 2), -0.1))


def test_without_adaptation_lars_is_sgd_at_a_constant_rate():
    a, b = (nn.Parameter(torch.ones(3)) for _ in range(2))
    one, other = (
        LARS([a], lr=0.1, adapt=False, weight_decay=0.2),
        torch.optim.SGD([b], 0.1, 0.9, weight_decay=0.2),
    )
    for step in range(4):
        a.grad, b.grad = (torch.tensor([1.0, -2.0, step]) for _ in range(2))
        one.step(), other.step()
    assert torch.allclose(a, b)


# --- SAM -------------------------------------------------------------------------------------------------------------


def test_sam_on_a_quadratic():
    h = torch.tensor([1.0, 4.0, 9.0], dtype=torch.float64)
    w = nn.Parameter(torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64))
    start = w.detach().clone()

    def closure():
        loss = (h * w.square()).sum() / 2
        loss.backward()
        return loss

    loss = sam_step(torch.optim.SGD([w], 0.1), [w], closure, rho=0.3)
    g = h * start
    assert torch.allclose(w, start - 0.1 * h * (start + 0.3 * g / g.norm()))
    assert loss.item() == pytest.approx(float((h * start.square()).sum() / 2))


def test_sam_leaves_the_weights_bit_for_bit_and_its_norm_is_over_all_of_them():
    a, b = nn.Parameter(torch.tensor([0.1, 0.7])), nn.Parameter(torch.tensor([[3.3]]))
    before = a.detach().clone(), b.detach().clone()
    seen = []

    def closure():
        seen.append((a.detach().clone(), b.detach().clone()))
        loss = 3 * a.sum() + 4 * b.sum()
        loss.backward()
        return loss

    sam_gradient([a, b], closure, rho=0.5)
    assert torch.equal(a, before[0])
    assert torch.equal(b, before[1])
    norm = (9 + 9 + 16) ** 0.5
    assert torch.allclose(seen[1][0] - seen[0][0], torch.full((2,), 0.5 * 3 / norm))
    assert torch.allclose(seen[1][1] - seen[0][1], torch.tensor([[0.5 * 4 / norm]]))
    assert torch.equal(a.grad, torch.full((2,), 3.0))  # of the second pass alone


def test_sam_replays_the_random_draws_and_ends_where_one_pass_would():
    w, drawn = nn.Parameter(torch.ones(5)), []

    def closure():
        noise = torch.randn(5)
        drawn.append(noise)
        loss = (noise * w).square().sum()
        loss.backward()
        return loss

    torch.manual_seed(3)
    sam_gradient([w], closure, rho=0.1)
    after = torch.get_rng_state()
    assert torch.equal(drawn[0], drawn[1])
    torch.manual_seed(3)
    torch.randn(5)
    assert torch.equal(after, torch.get_rng_state())


def test_sam_at_a_flat_point_and_after_a_failure():
    w = nn.Parameter(torch.zeros(2))

    def closure():
        loss = w.square().sum()
        loss.backward()
        return loss

    sam_gradient([w], closure, rho=0.1)
    assert w.grad.abs().max() == 0
    w.data.fill_(1.0)
    calls = []

    def failing():
        calls.append(0)
        if len(calls) == 2:
            raise RuntimeError("out of memory")
        return closure()

    with pytest.raises(RuntimeError, match="out of memory"):
        sam_gradient([w], failing, rho=0.1)
    assert torch.equal(w.detach(), torch.ones(2))
    with pytest.raises(ConfigError, match="sam=0"):
        sam_gradient([w], closure, rho=0)
