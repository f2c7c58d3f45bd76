import pytest
import torch
from torch.nn import functional as F

from counterpoint.errors import ConfigError, DataError
from counterpoint.objectives.pointwise import pointwise

S = torch.tensor([[0.5, -1.0, 2.0], [1.0, 0.0, -1.0]])


def test_each_task_by_hand():
    y = torch.tensor([1.0, 0.0])
    p = torch.sigmoid(S[:, 0])
    torch.testing.assert_close(pointwise(S, y, task="binary"), -(p[0].log() + (1 - p[1]).log()) / 2)
    torch.testing.assert_close(pointwise(S, y, task="regression"), torch.tensor((0.25 + 1.0) / 2))
    q = S.softmax(1)
    expected = torch.stack([-q[0, 2].log(), -q[1, 1].log()])
    torch.testing.assert_close(pointwise(S, torch.tensor([2.0, 1.0]), task="classes", reduction="none"), expected)


@pytest.mark.parametrize("task", ["binary", "regression", "classes"])
def test_what_is_not_known_counts_nothing(task):
    logits = S.clone().requires_grad_()
    y, mask = torch.tensor([float("nan"), 1.0]), torch.tensor([False, True])
    found = pointwise(logits, y, task=task, mask=mask)
    torch.testing.assert_close(found, pointwise(S[1:], y[1:], task=task))
    found.backward()
    assert (logits.grad[0] == 0).all()
    assert logits.grad[1].isfinite().all()
    nothing = pointwise(S, y, task=task, mask=torch.zeros(2, dtype=torch.bool))
    assert nothing == 0


def test_scores_that_are_no_class_are_refused():
    for task, y in (("binary", [0.0, 2.0]), ("binary", [0.5, 1.0]), ("classes", [0.0, 3.0]), ("classes", [-1.0, 0.0])):
        with pytest.raises(DataError, match=f"task={task}: scores are whole numbers from 0 to"):
            pointwise(S, torch.tensor(y), task=task)
    with pytest.raises(ConfigError, match="binary, regression or classes"):
        pointwise(S, torch.zeros(2), task="ranking")
    assert F.mse_loss(S[:, 0], torch.tensor([9.0, -9.0])) == pointwise(S, torch.tensor([9.0, -9.0]), task="regression")
