import pytest
import torch

from counterpoint.errors import ConfigError, DataError
from counterpoint.memory.queue import GroupQueues, Queue


def numbered(first, n):
    return torch.arange(first, first + n, dtype=torch.float32)[:, None].expand(n, 2)


def held(queue):
    return sorted(queue.snapshot()[:, 0].tolist())


def test_the_oldest_leave_first_and_writing_wraps_around():
    queue = Queue(5, 2, start="empty")
    assert queue.snapshot().shape == (0, 2)
    queue.push(numbered(0, 3))
    assert held(queue) == [0, 1, 2]
    assert queue.valid.tolist() == [True] * 3 + [False] * 2
    queue.push(numbered(3, 4))
    assert held(queue) == [2, 3, 4, 5, 6]
    queue.push(numbered(7, 1))
    assert held(queue) == [3, 4, 5, 6, 7]


@pytest.mark.parametrize("sizes", [[12], [3, 9], [1] * 12, [7, 0, 5]])
def test_any_batch_size_leaves_the_same_last_rows_in_the_same_slots(sizes):
    queue, first = Queue(5, 2), 0
    for n in sizes:
        queue.push(numbered(first, n))
        first += n
    assert queue.snapshot()[:, 0].tolist() == [10, 11, 7, 8, 9]
    assert int(queue.place) == 2


def test_fields_stay_beside_their_vectors():
    queue = Queue(4, 2, fields={"label": torch.long, "weight": torch.float32}, start="empty")
    for first in (0, 3, 6):
        z = numbered(first, 3)
        queue.push(z, label=z[:, 0].long() * 10, weight=z[:, 0] / 2)
    vectors = queue.snapshot()[:, 0]
    assert torch.equal(queue.snapshot("label"), vectors.long() * 10)
    assert torch.equal(queue.snapshot("weight"), vectors / 2)


def test_it_begins_with_seeded_unit_vectors_whose_labels_match_nothing():
    queue = Queue(50, 3, fields={"label": torch.long}, seed=4)
    assert torch.allclose(queue.snapshot().norm(dim=1), torch.ones(50))
    assert (queue.snapshot("label") == -1).all()
    assert torch.equal(queue.snapshot(), Queue(50, 3, seed=4).snapshot())
    assert not torch.equal(queue.snapshot(), Queue(50, 3, seed=5).snapshot())


def test_pushing_does_not_disturb_a_loss_that_waits_for_its_backward_pass():
    queue = Queue(4, 2)
    z = torch.randn(3, 2, requires_grad=True)
    before = queue.snapshot()
    loss = (z @ queue.snapshot().T).square().sum()
    queue.push(z)
    grad = torch.autograd.grad(loss, z)[0]
    assert torch.allclose(grad, 2 * (z.detach() @ before.T) @ before)
    assert not queue.vectors.requires_grad


def test_bad_input_is_a_sentence_and_stores_nothing():
    queue = Queue(4, 2, fields={"label": torch.long})
    before = {k: v.clone() for k, v in queue.state_dict().items()}
    bad = torch.zeros(3, 2)
    bad[1, 0] = torch.inf
    with pytest.raises(DataError, match="Row 1 of 3"):
        queue.push(bad, label=torch.zeros(3))
    with pytest.raises(DataError, match=r"fields \['label'\]; push was given \[\]"):
        queue.push(torch.zeros(3, 2))
    with pytest.raises(DataError, match="'label' has shape"):
        queue.push(torch.zeros(3, 2), label=torch.zeros(2))
    with pytest.raises(DataError, match="width 2"):
        queue.push(torch.zeros(3, 5), label=torch.zeros(3))
    with pytest.raises(DataError, match="no field 'group'"):
        queue.snapshot("group")
    with pytest.raises(ConfigError, match="size=0"):
        Queue(0, 2)
    assert all(torch.equal(before[k], v) for k, v in queue.state_dict().items())


def test_every_group_has_its_own_queue_and_none_hears_of_the_others():
    queues = GroupQueues(3, 4, 2, fields={"row": torch.long}, start="empty")
    queues.of(2).push(torch.ones(3, 2), row=torch.arange(3))
    queues.of(0).push(torch.zeros(5, 2), row=torch.arange(5))
    assert [len(queues.of(g).snapshot()) for g in range(3)] == [4, 0, 3]
    assert queues.of(0).snapshot("row").tolist() == [4, 1, 2, 3]
    assert queues.of(2).snapshot().eq(1).all()
    other = GroupQueues(3, 4, 2, fields={"row": torch.long}, start="empty")
    other.load_state_dict(queues.state_dict())
    assert [len(other.of(g).snapshot()) for g in range(3)] == [4, 0, 3]
    first, second = (GroupQueues(2, 4, 2).of(g).snapshot() for g in range(2))
    assert not torch.equal(first, second)
    with pytest.raises(DataError, match="no group 3; there are 3"):
        queues.of(3)
    with pytest.raises(ConfigError, match="groups=0"):
        GroupQueues(0, 4, 2)
