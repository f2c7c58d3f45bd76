"""What is kept of each class, what can be drawn when, and that it is the same in whatever order rows come."""

import pytest
import torch

from counterpoint.errors import ConfigError, DataError
from counterpoint.memory.rehearsal import Rehearsal, joined


def offered(memory, rows, labels, z=None):
    rows, labels = torch.tensor(rows), torch.tensor(labels)
    z = torch.zeros(len(rows), memory.dim) if z is None else torch.tensor(z)
    memory.offer(z, rows, labels)


def kept(memory):
    return sorted(zip(memory.labels.tolist(), memory.rows.tolist()))


def test_classes_share_equally_and_old_ones_make_room():
    memory = Rehearsal(6, 4, 2)
    offered(memory, list(range(20)), [0, 1] * 10)
    assert len(memory) == 0  # nothing can be rehearsed while the first task goes on
    assert memory.draw(9).rows.tolist() == []
    memory.close()
    assert memory.labels.bincount().tolist() == [3, 3]
    before = set(kept(memory))
    offered(memory, list(range(20, 40)), [2, 3] * 10)
    assert set(memory.draw(99).labels.tolist()) == {0, 1}
    memory.close()
    assert memory.labels.bincount().tolist() == [1, 1, 1, 1]  # 6 // 4
    assert {pair for pair in kept(memory) if pair[0] < 2} <= before
    assert memory.learned.all()


def test_random_choice_does_not_depend_on_order_or_repetition():
    one, two = Rehearsal(4, 2, 2, seed=3), Rehearsal(4, 2, 2, seed=3)
    offered(one, list(range(30)), [i % 2 for i in range(30)])
    for part in (range(29, 10, -1), range(15), range(10, 20)):
        offered(two, list(part), [i % 2 for i in part])
    assert kept(one) == kept(two)
    other = Rehearsal(4, 2, 2, seed=4)
    offered(other, list(range(30)), [i % 2 for i in range(30)])
    assert kept(one) != kept(other)


def test_random_choice_is_even():
    times = torch.zeros(12)
    for seed in range(3000):
        memory = Rehearsal(3, 1, 1, seed=seed)
        offered(memory, list(range(12)), [0] * 12)
        times[memory.rows] += 1
    expected = 3000 * 3 / 12
    assert ((times - expected).abs() < 5 * (expected * 0.75) ** 0.5).all()


def test_herding_keeps_those_nearest_to_the_running_mean():
    memory = Rehearsal(2, 1, 1, choice="herding", momentum=0.5)
    offered(memory, [0, 1, 2], [0, 0, 0], [[0.0], [4.0], [8.0]])  # mean 4
    assert memory.means.tolist() == [[4.0]]
    assert set(memory.rows.tolist()) == {1, 0}  # 0 and 2 are as near: the earlier one stays
    offered(memory, [3, 4], [0, 0], [[11.0], [9.0]])  # mean (4 + 10) / 2 = 7
    assert memory.means.tolist() == [[7.0]]
    assert set(memory.rows.tolist()) == {1, 4}
    offered(memory, [4, 5], [0, 0], [[100.0], [7.0]])  # row 4 has moved; mean (7 + 53.5) / 2 = 30.25
    assert set(memory.rows.tolist()) == {1, 5}


def test_fields_of_any_length_come_back_with_their_rows_and_survive_saving():
    like = {"x": torch.zeros(0, 1, 2), "there": torch.zeros(0, 1, dtype=torch.bool)}
    memory = Rehearsal(4, 2, 1, fields=like)
    for rows, length in ([0, 1], 3), ([2, 3], 5):
        x = torch.tensor(rows)[:, None, None].float() + torch.zeros(2, length, 2)
        there = torch.ones(2, length, dtype=torch.bool)
        memory.offer(torch.zeros(2, 1), torch.tensor(rows), torch.tensor([0, 1]), {"x": x, "there": there})
    memory.close()
    other = Rehearsal(4, 2, 1, fields=like)
    other.load_state_dict(memory.state_dict())
    for found in (memory.draw(4), other.draw(4)):
        assert found.data["x"].shape == (4, 5, 2)
        for row, x, there in zip(found.rows.tolist(), found.data["x"], found.data["there"]):
            assert there.sum() == (3 if row < 2 else 5)
            assert (x[there] == row).all()
            assert (x[~there] == 0).all()


def test_what_is_refused():
    with pytest.raises(ConfigError, match="at least 7"):
        Rehearsal(6, 7, 2)
    with pytest.raises(ConfigError, match="random or herding"):
        Rehearsal(6, 3, 2, choice="best")
    memory = Rehearsal(6, 3, 2)
    offered(memory, [0, 1], [0, 1])
    memory.close()
    with pytest.raises(DataError, match=r"earlier one \(\[1\]\)"):
        offered(memory, [2, 3], [2, 1])
    with pytest.raises(DataError, match="do not fit 3 classes"):
        offered(memory, [2], [3])


def test_joined():
    found = joined(torch.ones(1, 2), torch.ones(1, 3))
    assert found.tolist() == [[1, 1, 0], [1, 1, 1]]
    assert joined(torch.ones(2), torch.zeros(1)).tolist() == [1, 1, 0]
