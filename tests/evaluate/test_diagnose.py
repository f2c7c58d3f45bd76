"""Every diagnosis fires where it must and only there; figures are those worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from counterpoint.errors import ConfigError, DataError
from counterpoint.evaluate.diagnose import diagnose, effective_negatives, examine, skewness, tolerance, unit
from counterpoint.evaluate.findings import Diagnosis
from tests.search.encoders import Counts

DIM = 32


def cloud(n: int = 400, dim: int = DIM, seed: int = 0) -> np.ndarray:
    return unit(np.random.default_rng(seed).normal(size=(n, dim)))


def near(z: np.ndarray, noise: float, seed: int = 1) -> np.ndarray:
    return unit(z + noise * np.random.default_rng(seed).normal(size=z.shape) / math.sqrt(z.shape[1]))


def fired(found: Diagnosis) -> set[str]:
    return {f.name for f in found.findings if f.act}


def test_a_healthy_space_asks_for_nothing() -> None:
    z, labels = cloud(), np.arange(400) % 4
    found = examine(z, pairs=(near(z, 0.3), z), temperature=0.1)
    assert fired(found) == set()
    assert found["alignment"].value < 0.2
    assert found["uniformity"].value < -3.5
    assert found["isotropy"].value > 0.7
    assert found["effective rank"].value > 0.9 * DIM
    assert "tolerance" not in found
    classes = cloud(4, seed=3)[labels]
    separate = examine(near(classes, 1.5), labels=labels, temperature=0.1)
    assert fired(separate) == {"same-class neighbours"}  # good, but for a loss that does not know the classes


def test_positives_that_are_no_nearer_than_others() -> None:
    assert "alignment" in fired(examine(cloud(), pairs=(cloud(seed=1), cloud(seed=2))))


def test_a_cone() -> None:
    """Everything points one way: not uniform, not isotropic, and of few directions."""
    axis = np.eye(DIM)[:1]
    found = examine(unit(axis + 0.02 * cloud()))
    assert {"uniformity", "isotropy", "effective rank", "duplicates"} <= fired(found)
    wide = examine(unit(1.6 * axis + cloud()))
    assert fired(wide) & {"uniformity", "isotropy", "effective rank", "duplicates"} == {"isotropy", "uniformity"}


def test_few_directions() -> None:
    flat = np.zeros((400, DIM))
    flat[:, :2] = cloud(dim=2)
    flat[:, 2:] = 0.01 * cloud(dim=DIM - 2, seed=1)
    found = examine(flat)
    assert "effective rank" in fired(found)
    assert found["effective rank"].value < 4


def test_classes_that_are_pushed_apart() -> None:
    labels = np.arange(400) % 4
    assert "tolerance" in fired(examine(cloud(), labels=labels))
    assert "same-class neighbours" not in fired(examine(cloud(), labels=labels))
    assert examine(cloud(), labels=labels)["same-class neighbours"].value == pytest.approx(0.25, abs=0.05)


def test_the_temperature_is_too_low_or_too_high() -> None:
    z = cloud()
    said = {t: examine(z, temperature=t)["hardness"] for t in (0.011, 0.1, 1.5)}
    assert [said[t].act for t in said] == [True, False, True]
    assert "raise the temperature" in said[0.011].says
    assert "lower the temperature" in said[1.5].says
    assert said[0.011].value < 2
    assert said[1.5].value > 200
    unknown = examine(z)["hardness"]
    assert unknown.value is None
    assert not unknown.act
    assert "--temperature" in unknown.says


def test_hubs() -> None:
    """A few rows at the centre of a shell are everyone's neighbours."""
    shell = cloud(500, dim=64)
    centre = unit(shell[:250].mean(0, keepdims=True))
    leaning = unit(shell + 0.6 * centre)
    hubs = unit(centre + 0.1 * cloud(5, dim=64, seed=2))
    found = examine(np.concatenate((leaning, hubs)))
    assert "hubness" in fired(found)
    assert {row["item"] for row in found.examples["hubs"][:5]} == {f"row {i}" for i in range(500, 505)}
    assert "hubness" not in fired(examine(cloud(500, dim=8)))


def test_anti_hubs() -> None:
    """Outer rows are nearer to a core than to one another: nobody has them near."""
    axis = np.eye(256)[:1]
    outer, core = unit(0.45 * axis + cloud(300, dim=256)), unit(axis + 0.1 * cloud(30, dim=256, seed=1))
    found = examine(np.concatenate((outer, core)))
    assert "anti-hubs" in fired(found)
    assert found["anti-hubs"].value == pytest.approx(300 / 330, abs=0.02)
    assert "anti-hubs" not in fired(examine(cloud(400, dim=4)))


def test_duplicates() -> None:
    z = cloud()
    z[10:20] = z[30:40]
    found = examine(z)
    assert "duplicates" in fired(found)
    assert found["duplicates"].value == pytest.approx(20 / 400)
    assert found.examples["duplicates"][0] == {"one": "row 10", "other": "row 30"}
    assert "duplicates" not in fired(examine(cloud()))


def test_false_negatives() -> None:
    """Half of the anchors have another positive nearer than their own, and it is named."""
    z = cloud(100)
    anchors = near(z, 0.5)
    rows = [f"a{i}" for i in range(100)], [f"p{i}" for i in range(100)]
    assert "nearer than the positive" not in fired(examine(z, pairs=(anchors, z), pair_names=rows))
    swapped = z.copy()
    swapped[:50] = z[1:51]  # the positive of i stands at i - 1
    found = examine(z, pairs=(anchors, swapped), pair_names=rows)
    assert found["nearer than the positive"].value == pytest.approx(0.5, abs=0.03)
    assert "nearer than the positive" in fired(found)
    for example in found.examples["nearer than the positive"]:
        assert int(example["nearer"][1:]) == int(example["anchor"][1:]) - 1
    same = np.repeat(cloud(10), 10, axis=0)  # equal positives are no others
    assert examine(cloud(), pairs=(near(same, 0.1), same))["nearer than the positive"].value == 0
    one, other = cloud(100), near(cloud(100), 0.5)
    both = np.concatenate([one, other]), np.concatenate([other, one])  # every pair both ways: an anchor is a positive
    assert examine(both[0], pairs=both)["nearer than the positive"].value == 0


def test_the_gap_of_two_modalities() -> None:
    z = cloud()
    axis = np.eye(DIM)[:1]
    apart = examine(unit(z - axis), pairs=(unit(z + axis), unit(z - axis)), towers=True)
    assert "modality gap" in fired(apart)
    together = examine(z, pairs=(near(z, 0.2), z), towers=True)
    assert "modality gap" in together
    assert "modality gap" not in fired(together)
    assert "modality gap" not in examine(z, pairs=(near(z, 0.2), z))


# --- figures -----------------------------------------------------------------------------------------------------


def test_tolerance_by_hand() -> None:
    z = np.array([[1.0, 0], [0.6, 0.8], [0, 1], [1, 0], [0.8, -0.6]])
    labels = np.array([0, 0, 1, 0, -1])  # a class of one, and one that is not known
    assert tolerance(3 * z, labels) == pytest.approx((0.6 + 1.0 + 0.6) / 3)
    assert math.isnan(tolerance(z, np.arange(5)))


def test_effective_negatives_grow_with_the_temperature() -> None:
    s = torch.tensor([[0.9, 0.3, 0.1, -torch.inf, -0.5]])
    found = effective_negatives(s, (1e-3, 0.1, 0.5, 1.0, 1e4))[0]
    assert (np.diff(found) > 0).all()
    assert found[0] == pytest.approx(1)
    assert found[-1] == pytest.approx(4, rel=1e-6)
    r = np.exp(np.array([0.9, 0.3, 0.1, -0.5]) / 0.5)
    r /= r.sum()
    assert found[2] == pytest.approx(np.exp(-(r * np.log(r)).sum()))


def test_skewness() -> None:
    assert skewness(np.array([1, 2, 3])) == pytest.approx(0)
    assert skewness(np.full(5, 3)) == 0
    assert skewness(np.array([0, 0, 0, 4])) == pytest.approx(2 / math.sqrt(3))


def test_what_is_refused() -> None:
    z = cloud(20)
    with pytest.raises(DataError, match="at least 3"):
        examine(z[:2])
    with pytest.raises(DataError, match="row 4 is all zeros"):
        examine(np.where(np.arange(20)[:, None] == 4, 0, z))
    with pytest.raises(DataError, match="not finite"):
        examine(np.where(np.arange(20)[:, None] == 4, np.nan, z))
    with pytest.raises(ConfigError, match="positive"):
        examine(z, temperature=0.0)
    with pytest.raises(DataError, match="labels have shape"):
        examine(z, labels=np.arange(3))
    with pytest.raises(DataError, match="of both"):
        examine(z, pairs=(z, z[:3]))


# --- rows ----------------------------------------------------------------------------------------------------------


def test_rows_of_every_kind() -> None:
    encoder = Counts([*"abcdefghklmnop", "more"])
    texts = [f"{a} {b}" for a in "abcdefgh" for b in "klmnop"]
    pairs = [{"anchor": t, "positive": t + " more", "row": i} for i, t in enumerate(texts)]
    assert diagnose(encoder, pairs).counts["pairs"] == 48
    scored = [{"a": t, "b": t + " more", "score": float(i % 5), "row": i} for i, t in enumerate(texts)]
    found = diagnose(encoder, scored)
    assert found.counts["pairs"] == sum(i % 5 >= 3 for i in range(48))
    assert "upper quarter" in found.notes[0]
    labelled = [{"text": t, "label": i % 3, "row": i} for i, t in enumerate(texts)]
    assert {"tolerance", "same-class neighbours"} <= {f.name for f in diagnose(encoder, labelled).findings}
    single = diagnose(encoder, [{"text": t, "row": i} for i, t in enumerate(texts)])
    assert "alignment" not in single
    assert "alignment is left out" in " ".join(single.notes)
    assert single.to_json()["counts"]["rows"] == 48
    with pytest.raises(DataError, match="no rows"):
        diagnose(encoder, [])
    with pytest.raises(DataError, match="cannot be diagnosed"):
        diagnose(encoder, [{"image": 1, "row": 0}])
