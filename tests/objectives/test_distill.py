import math

import pytest
import torch
from torch.nn import functional as F

from counterpoint.errors import ConfigError, DataError
from counterpoint.objectives.distill import (
    advice_on_scale,
    binary_logit,
    embedding_cosine,
    embedding_mse,
    head_logits,
    kl_distillation,
    logit_mse,
    margin_mse,
)


def draw(*shape, seed=0):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_margin_mse_by_hand():
    sp, sn = torch.tensor([3.0, 1.0]), torch.tensor([1.0, 1.0])
    tp, tn = torch.tensor([9.0, 5.0]), torch.tensor([8.0, 2.0])
    assert torch.equal(margin_mse(sp, sn, tp, tn, reduction="none"), torch.tensor([1.0, 9.0]))
    assert margin_mse(sp, sn, tp, tn) == 5
    many = margin_mse(sp, torch.stack([sn, sn + 1], 1), tp, torch.stack([tn, tn], 1), reduction="none")
    assert torch.equal(many, torch.tensor([(1 + 0) / 2, (9 + 16) / 2]))


def test_margin_mse_leaves_the_level_free():
    sp, sn, tp, tn = draw(4, 6)
    assert torch.allclose(margin_mse(sp, sn, tp, tn), margin_mse(sp + 7, sn + 7, tp - 3, tn - 3))


def test_kl_is_zero_and_flat_where_the_distributions_are_equal():
    student = draw(4, 5).requires_grad_()
    loss = kl_distillation(student, student.detach() + 3, temperature=2)  # a shift changes no distribution
    assert loss.item() == pytest.approx(0, abs=1e-14)
    assert torch.autograd.grad(loss, student)[0].abs().max() < 1e-14
    assert kl_distillation(draw(4, 5), draw(4, 5, seed=1)) > 0.1


def test_kl_against_the_definition():
    s, t = draw(2, 3, 5)
    p = (t / 2).softmax(1)
    expected = 4 * (p * (p.log() - (s / 2).log_softmax(1))).sum(1)
    assert torch.allclose(kl_distillation(s, t, temperature=2, reduction="none"), expected)


def test_gradient_keeps_its_size_at_high_temperature():
    """T² KL tends to half the mean squared difference of centred logits: the factor cancels the 1/T² of the slopes."""
    s, t = draw(2, 3, 5)
    s, t = s - s.mean(1, keepdim=True), t - t.mean(1, keepdim=True)
    limit = (s - t).square().sum(1).mean() / (2 * 5)
    assert math.isclose(kl_distillation(s, t, temperature=1e4), limit, rel_tol=1e-3)


def test_masked_entries_do_not_exist():
    s, t = draw(2, 2, 4)
    mask = torch.tensor([[True, True, False, True], [False] * 4])
    s.requires_grad_()
    loss = kl_distillation(s, t, mask=mask, reduction="none")
    keep = [0, 1, 3]
    assert torch.allclose(loss[0], kl_distillation(s[:1, keep], t[:1, keep]))
    assert loss[1] == 0
    grad = torch.autograd.grad(loss.sum(), s)[0]
    assert grad.isfinite().all()
    assert grad[~mask].abs().max() == 0


def test_embeddings():
    s, t = draw(2, 6, 3)
    assert torch.allclose(embedding_mse(s, t), F.mse_loss(s, t))
    assert torch.allclose(embedding_cosine(s, 5 * t), 1 - torch.cosine_similarity(s, t).mean())


def test_no_gradient_reaches_the_teacher_and_gradcheck():
    s, t = draw(4, 5).requires_grad_(), draw(4, 5, seed=1).requires_grad_()
    for loss in (kl_distillation, embedding_mse, embedding_cosine):
        assert torch.autograd.grad(loss(s, t), [s, t], allow_unused=True)[1] is None
        assert torch.autograd.gradcheck(lambda x, f=loss: f(x, t.detach()), s)
    p, n = draw(2, 4).unbind()
    teacher = draw(2, 4, seed=1)
    p.requires_grad_(), n.requires_grad_()
    assert torch.autograd.gradcheck(lambda x, y: margin_mse(x, y, *teacher), (p, n))


def test_bad_input_is_a_sentence():
    with pytest.raises(ConfigError, match="temperature is positive"):
        kl_distillation(draw(2, 3), draw(2, 3), temperature=0)
    with pytest.raises(DataError, match=r"negative \(3,\), teacher_negative \(2,\)"):
        margin_mse(draw(3), draw(3), draw(3), draw(2))


def test_logit_mse_sums_over_classes_and_leaves_out_what_the_teacher_has_not_said():
    s = torch.tensor([[1.0, 2.0], [0.0, 0.0], [4.0, 4.0]], requires_grad=True)
    t = torch.tensor([[0.0, 4.0], [1.0, 1.0], [math.nan, math.nan]], requires_grad=True)
    assert torch.equal(logit_mse(s[:2], t[:2], reduction="none"), torch.tensor([5.0, 2.0]))
    loss = logit_mse(s, t, mask=torch.tensor([True, True, False]))
    assert loss == 3.5
    loss.backward()
    assert torch.equal(s.grad, torch.tensor([[1.0, -2.0], [-1.0, -1.0], [0.0, 0.0]]))
    assert t.grad is None
    assert logit_mse(s, t, mask=torch.zeros(3, dtype=torch.bool)) == 0


def test_two_logits_as_one_say_the_same():
    logits = draw(6, 2)
    assert torch.allclose(torch.sigmoid(binary_logit(logits)), logits.softmax(1)[:, 1])
    with pytest.raises(DataError, match="two classes"):
        binary_logit(draw(6, 3))


def test_a_teachers_logits_for_a_head_of_another_form():
    one, two, three = torch.tensor([1.0, 2.0]), torch.tensor([[1.0, 4.0], [2.0, 0.0]]), torch.arange(6.0).reshape(2, 3)
    assert head_logits(one, 1).tolist() == [[1.0], [2.0]]
    assert head_logits(two, 1).tolist() == [[3.0], [-2.0]]
    assert head_logits(two, 1, classes=(1, 0)).tolist() == [[-3.0], [2.0]]
    assert head_logits(two, 2).tolist() == two.tolist()
    assert head_logits(three, 3, classes=(2, 0, 1)).tolist() == [[2.0, 0.0, 1.0], [5.0, 3.0, 4.0]]
    nothing = head_logits(torch.full((2,), torch.nan), 3)
    assert nothing.shape == (2, 3)
    assert nothing.isnan().all()
    some = head_logits(torch.tensor([[torch.nan, torch.nan], [1.0, 2.0]]), 1)
    assert some.isnan().tolist() == [[True], [False]]
    with pytest.raises(DataError, match="3 logits per pair, the head 2"):
        head_logits(three, 2)
    with pytest.raises(DataError, match="The teacher has 3 classes"):
        head_logits(three, 2, classes=(1, 0))


def test_advice_where_logits_are_of_another_size():
    calm = torch.tensor([[1.0], [torch.nan], [3.0]])
    assert advice_on_scale(calm) == ""
    assert "a logit of 300" in advice_on_scale(100 * calm)
    # The standard deviation of 1 and 3, times 10 by which they were divided already.
    assert f"logit_scale={1000 * 2**0.5:.1f} evens" in advice_on_scale(100 * calm, divided_by=10.0)
    scores = torch.tensor([1.0, 99.0, 3.0])  # the second is not judged
    assert advice_on_scale(calm, scores) == ""
    assert "about 92.00 and the teacher's about 2.00" in advice_on_scale(calm, scores + 90)
    assert advice_on_scale(calm[:2], scores[:2] + 90) == ""  # of one row there is no spread
