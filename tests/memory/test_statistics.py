import pytest
import torch

from counterpoint.errors import ConfigError, DataError
from counterpoint.memory.statistics import RunningMoment, RunningVariance


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_the_recursion():
    moment, a, b = RunningMoment(3, 0.3), draw(8, 3), draw(5, 3, seed=1)
    assert torch.equal(moment.moment, torch.zeros(3, 3))
    moment.update(a)
    first = a.T @ a / 8
    assert torch.allclose(moment.moment, first)  # not shrunk by the zeros it began with
    moment.update(b)
    assert torch.allclose(moment.moment, 0.3 * first + 0.7 * b.T @ b / 5)
    assert torch.equal(moment.moment, moment.moment.T)


def test_centred_is_the_covariance():
    moment, z = RunningMoment(3, 0.9, centred=True), draw(20, 3) + 5
    moment.update(z)
    assert torch.allclose(moment.moment, torch.cov(z.T, correction=0), atol=1e-4)
    moment.update(z)
    assert torch.allclose(moment.moment, torch.cov(z.T, correction=0), atol=1e-4)


def test_variance_sees_the_mean_drift():
    variance = RunningVariance(1, 0.5)
    variance.update(torch.tensor([[1.0], [1.0]]))
    variance.update(torch.tensor([[3.0], [3.0]]))
    assert variance.mean.item() == pytest.approx(2)
    assert variance.variance.item() == pytest.approx(1)  # half of the mass at 1, half at 3


@pytest.mark.parametrize("memory", [RunningMoment(2, 0.5), RunningVariance(2, 0.5)])
def test_no_rows_change_nothing_and_nan_is_refused(memory):
    memory.update(draw(4, 2))
    before = {k: v.clone() for k, v in memory.state_dict().items()}
    memory.update(torch.zeros(0, 2))
    with pytest.raises(DataError, match="Row 3 of 4"):
        memory.update(torch.tensor([[1.0, 1], [1, 1], [1, 1], [torch.nan, 1]]))
    assert all(torch.equal(before[k], v) for k, v in memory.state_dict().items())


def test_rho_is_the_weight_of_the_old_value():
    with pytest.raises(ConfigError, match="0 <= rho < 1"):
        RunningMoment(2, 1.0)
    moment = RunningMoment(2, 0.0)
    moment.update(draw(4, 2))
    moment.update(torch.ones(4, 2))
    assert torch.equal(moment.moment, torch.ones(2, 2))
