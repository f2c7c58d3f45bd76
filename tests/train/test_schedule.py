import pytest

from counterpoint.errors import ConfigError
from counterpoint.train.config import TrainConfig
from counterpoint.train.schedule import lr_factor, warmup_steps


def factors(steps, **settings):
    return [lr_factor(s, steps, TrainConfig(**settings)) for s in range(steps)]


def test_warmup_rises_linearly_to_the_peak():
    assert factors(8, warmup=4, schedule="constant") == [0.25, 0.5, 0.75, 1, 1, 1, 1, 1]
    assert factors(8, warmup=0.5, schedule="constant") == [0.25, 0.5, 0.75, 1, 1, 1, 1, 1]
    assert factors(3, warmup=0, schedule="constant") == [1, 1, 1]


def test_linear_and_cosine_fall_from_the_peak_and_spend_no_step_at_zero():
    assert factors(4, warmup=0, schedule="linear") == pytest.approx([1, 0.75, 0.5, 0.25])
    cosine = factors(4, warmup=0, schedule="cosine")
    assert cosine == pytest.approx([1, (1 + 2**-0.5) / 2, 0.5, (1 - 2**-0.5) / 2])
    assert min(factors(1000, schedule="cosine", warmup=100)) > 0


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_the_end_is_the_floor(schedule):
    config = TrainConfig(schedule=schedule, lr_end=0.1, warmup=10)
    assert lr_factor(100, 100, config) == pytest.approx(0.1)
    assert lr_factor(120, 100, config) == pytest.approx(0.1)
    assert lr_factor(55, 100, config) == pytest.approx(0.55)
    values = [lr_factor(s, 100, config) for s in range(9, 101)]
    assert values == sorted(values, reverse=True)


def test_one_step_and_all_warmup():
    assert factors(1, warmup=0.05) == [1]
    assert factors(4, warmup=4) == [0.25, 0.5, 0.75, 1]


def test_bad_warmup_is_a_sentence():
    assert warmup_steps(1000, TrainConfig(warmup=0.05)) == 50
    with pytest.raises(ConfigError, match="longer than the run of 50 steps"):
        lr_factor(0, 50, TrainConfig(warmup=1000))
    with pytest.raises(ConfigError, match="warmup=-1"):
        lr_factor(0, 50, TrainConfig(warmup=-1))
