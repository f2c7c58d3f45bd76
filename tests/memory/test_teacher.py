import math

import pytest
import torch
from torch import nn

from counterpoint.errors import ConfigError
from counterpoint.memory.teacher import Teacher


def linear(value):
    layer = nn.Linear(2, 2)
    for p in layer.parameters():
        p.data.fill_(value)
    return layer


def test_closed_form_of_the_moving_average():
    student = linear(0.0)
    teacher = Teacher(student, momentum=0.9)
    for p in student.parameters():
        p.data.fill_(1.0)
    for _ in range(7):
        teacher.update(student)
    for p in teacher.parameters():
        assert torch.allclose(p, torch.full_like(p, 1 - 0.9**7))


@pytest.mark.parametrize("momentum", [0.0, 1.0])
def test_limits_are_a_copy_and_a_frozen_model(momentum):
    student = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    teacher = Teacher(student, momentum=momentum)
    start = {k: v.clone() for k, v in student.state_dict().items()}
    student(torch.randn(8, 3))
    for p in student.parameters():
        p.data.mul_(3).add_(0.1)
    teacher.update(student)
    expected = student.state_dict() if momentum == 0 else start
    for key, value in teacher.model.state_dict().items():
        assert torch.equal(value, expected[key]), key


def test_cosine_schedule_rises_to_one():
    teacher = Teacher(linear(0.0), momentum=0.99, schedule="cosine")
    assert teacher.momentum_at(0, 100) == pytest.approx(0.99)
    assert teacher.momentum_at(50, 100) == pytest.approx(0.995)
    assert teacher.momentum_at(100, 100) == 1
    assert teacher.momentum_at(25, 100) == pytest.approx(1 - 0.01 * (1 + math.cos(math.pi / 4)) / 2)
    with pytest.raises(ConfigError, match="give step and steps"):
        teacher.update(linear(1.0))


def test_no_gradient_and_nothing_trainable():
    student = linear(0.5)
    teacher = Teacher(student)
    z = teacher(torch.randn(3, 2, requires_grad=True))
    assert not z.requires_grad
    assert not any(p.requires_grad for p in teacher.parameters())
    assert all(p.requires_grad for p in student.parameters())
    assert teacher.model.weight.data_ptr() != student.weight.data_ptr()


def test_dropout_is_a_choice():
    student = nn.Dropout(0.5)
    x = torch.ones(1, 1000)
    for dropout in (True, False):
        teacher = Teacher(student, dropout=dropout)
        outer = nn.ModuleList([teacher]).train()
        assert (teacher(x) == 0).any() == dropout
        outer.eval()
        assert torch.equal(teacher(x), x)


def test_buffers_are_the_students_or_its_own():
    for copied in (True, False):
        student = nn.BatchNorm1d(2)
        teacher = Teacher(student, copy_buffers=copied)
        student(torch.randn(16, 2) + 4)
        teacher.update(student)
        assert torch.equal(teacher.model.running_mean, student.running_mean) == copied


def test_bad_settings_are_a_sentence():
    with pytest.raises(ConfigError, match=r"momentum=1\.5"):
        Teacher(linear(0.0), momentum=1.5)
    with pytest.raises(ConfigError, match="constant or cosine"):
        Teacher(linear(0.0), schedule="linear")
    with pytest.raises(ConfigError, match="same parameters"):
        Teacher(linear(0.0)).update(nn.Linear(3, 2))


def test_what_a_frozen_teacher_held_is_given_back():
    student = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    teacher = Teacher(student, momentum=1.0)
    start = {k: v.clone() for k, v in student.state_dict().items()}
    places = [p.data_ptr() for p in student.parameters()]
    student(torch.randn(8, 3))
    for p in student.parameters():
        p.data.mul_(3).add_(0.1)
    teacher.restore(student)
    assert all(torch.equal(v, start[k]) for k, v in student.state_dict().items())
    assert [p.data_ptr() for p in student.parameters()] == places  # an optimiser goes on with the same weights
    with pytest.raises(ValueError, match="shorter"):
        teacher.restore(nn.Linear(3, 3))
