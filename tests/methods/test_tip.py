"""TIP's three losses written out; hidden cells reach the loss as targets alone; what is kept encodes rows jointly."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from counterpoint.encoders import folder
from counterpoint.encoders.heads import Projected
from counterpoint.encoders.image import ConvNet, ConvNetConfig
from counterpoint.encoders.table import TableTransformer, TableTransformerConfig
from counterpoint.errors import ConfigError
from counterpoint.methods.multimodal.tip import TIP, Config
from counterpoint.modalities.table import Columns
from counterpoint.objectives.match import hard_negatives

pytest.importorskip("PIL")

RNG = np.random.default_rng(0)
ROWS = [
    {
        "row": i,
        "image": RNG.integers(0, 256, (16, 16, 3), dtype=np.uint8),
        "table": {"kind": "abc"[i % 3], "sold": bool(i % 2), "price": float(i), "area": None if i == 2 else float(-i)},
    }
    for i in range(6)
]
COLUMNS = Columns.fit({name: [r["table"][name] for r in ROWS] for name in ROWS[0]["table"]})


def build(seed=0, columns=COLUMNS, missing="token", hide_keys=True, **settings):
    torch.manual_seed(seed)
    image = ConvNet(ConvNetConfig(size=16, stem_width=8, widths=(8, 12), depths=(1, 1), norm="group"))
    table = TableTransformer(
        TableTransformerConfig(
            dim=16,
            layers=2,
            heads=2,
            missing=missing,
            hide=hide_keys,
            categories=columns.categories,
            numbers=columns.numbers,
        )
    )
    method = TIP({"image": image, "table": table}, Config(dim=8, layers=2, heads=2, **settings))
    for name, p in method.named_parameters():
        if "norm" not in name and p.ndim > 1:
            torch.nn.init.normal_(p, std=0.3)  # so that everything has an effect
    return method


def views(method, rows=ROWS, seed=1):
    return method.views(rows, np.random.default_rng(seed))


def test_the_losses_written_out():
    method = build().eval()
    batch = views(method)
    found = method.losses(batch)
    image, table = method.image.encoder, method.table.encoder
    places = image.tokens(batch.one("anchor").data)[0]
    t = table.tokens(batch.one("positive").data)[0]
    u = F.normalize(method.image.projection(places.mean(1)), dim=-1)
    w = F.normalize(method.table.projection(t[:, 0]), dim=-1)
    logits, at = u @ w.T / 0.1, torch.arange(6)
    itc = (F.cross_entropy(logits, at) + F.cross_entropy(logits.T, at)) / 2
    torch.testing.assert_close(found["itc"] * 3, itc)

    draw = batch.labels["draw"]
    row, picture = hard_negatives(logits, draw[:, 0]), hard_negatives(logits.T, draw[:, 1])
    pairs = [(t[i], places[i], 1) for i in range(6)]
    pairs += [(t[i], places[picture[i]], 0) for i in range(6)] + [(t[row[i]], places[i], 0) for i in range(6)]
    answers = [method.matched(method.interaction(a[None], b[None])[:, 0]) for a, b, _ in pairs]
    itm = F.cross_entropy(torch.cat(answers), torch.tensor([c for *_, c in pairs]))
    torch.testing.assert_close(found["itm"] * 3, itm)

    f = method.interaction(table.tokens(batch.one("context").data)[0], places)[:, 1:]
    hidden, values, codes = batch.labels["hidden"], batch.labels["values"], batch.labels["codes"]
    entropy, square = [], []
    for i, column in hidden.nonzero().tolist():
        if column < 2:
            entropy.append(-F.log_softmax(method.categories(f[i, column]), 0)[codes[i, column]])
        else:
            square.append((method.numbers(f[i, column])[0] - values[i, column - 2]) ** 2)
    mtr = (torch.stack(entropy).mean() + torch.stack(square).mean()) / 2
    torch.testing.assert_close(found["mtr"] * 3, mtr)


def test_what_is_left_is_averaged():
    whole = build().eval()
    for left in ({"itm": False}, {"mtr": False}, {"itm": False, "mtr": False}):
        method = build(**left).eval()
        method.load_state_dict(whole.state_dict(), strict=False)
        losses = method.losses(views(method))
        assert set(losses) == {"itc", "itm", "mtr"} - set(left)
    # Without the others, the contrast is the same and counts three times as much.
    torch.testing.assert_close(losses["itc"], 3 * whole.losses(views(whole))["itc"])
    assert method.matched is None
    assert method.categories is None
    assert method.numbers is None


def test_a_hidden_cell_does_not_reach_its_prediction():
    for missing, hide_keys in (("token", True), ("token", False), ("impute", False)):
        method = build(missing=missing, hide_keys=hide_keys).eval()
        batch = views(method)
        hidden = batch.labels["hidden"]
        assert hidden.sum(1).tolist() == [2, 2, hidden[2].sum(), 2, 2, 2]
        assert not hidden[2, 3]  # it was missing: there is nothing to predict
        other = [{**r, "table": dict(r["table"])} for r in ROWS]
        for i, column in hidden.nonzero().tolist():
            name = COLUMNS.names[column]
            other[i]["table"][name] = {"kind": "a", "sold": True}.get(name, 77.0)
        changed = views(method, other)
        assert torch.equal(changed.labels["hidden"], hidden)
        one, two = batch.one("context").data, changed.one("context").data
        assert all(torch.equal(one[k], two[k]) for k in one)
        assert not torch.equal(batch.labels["values"], changed.labels["values"])


def test_prediction_reads_the_image():
    method = build().eval()
    batch = views(method)
    places = method.image.encoder.tokens(batch.one("anchor").data)[0].detach().requires_grad_()
    tokens = method.table.encoder.tokens(batch.one("context").data)[0]
    method.fill(method.interaction(tokens, places), batch).backward()
    assert places.grad.abs().amax((1, 2)).gt(0).all()


def test_negatives_are_chosen_without_a_gradient():
    method = build().eval()
    batch = views(method)
    method.losses(batch)["itm"].backward()
    assert method.image.projection[0].weight.grad is None
    assert method.table.projection[0].weight.grad is None
    assert method.image.encoder.body[0].convolution.weight.grad.any()


def test_one_row_has_no_negative_and_stays_finite():
    method = build().train()
    batch = views(method, ROWS[:1])
    losses = method.losses(batch)
    assert losses["itm"] == 0
    assert losses["itc"].abs() < 1e-6
    assert losses["mtr"] > 0
    sum(losses.values()).backward()
    assert all(torch.isfinite(p.grad).all() for p in method.parameters() if p.grad is not None)


def test_tables_of_one_sort_of_columns():
    for names, kept in ((["kind", "sold"], "categories"), (["price", "area"], "numbers")):
        rows = [{**r, "table": {n: r["table"][n] for n in names}} for r in ROWS]
        columns = Columns.fit({n: [r["table"][n] for r in rows] for n in names})
        method = build(columns=columns)
        losses = method.losses(views(method, rows))
        assert torch.isfinite(torch.stack(list(losses.values()))).all()
        assert [n for n in ("categories", "numbers") if getattr(method, n) is not None] == [kept]


def test_rows_without_an_image_or_a_table_are_left_out_and_empty_tables_are_not():
    method = build().eval()
    rows = [*ROWS[:3], {**ROWS[3], "image": None}, {**ROWS[4], "table": None}]
    rows.append({**ROWS[5], "table": dict.fromkeys(COLUMNS.names)})
    batch = views(method, rows)
    assert batch.rows.tolist() == [0, 1, 2, 5]
    assert torch.isfinite(torch.stack(list(method.losses(batch).values()))).all()
    assert not batch.labels["hidden"][-1].any()


def test_what_is_kept_encodes_rows_jointly(tmp_path):
    method = build().eval()
    towers = method.towers()
    assert list(towers) == ["image+table", "image", "table"]
    joint = towers["image+table"].encode(ROWS, normalize=False)
    batch = build(augment=0.0, corrupt=0.0).eval().views(ROWS, np.random.default_rng(0))
    with torch.no_grad():
        torch.testing.assert_close(method.encode(batch), torch.from_numpy(joint))
    for stream, encoder in towers.items():
        folder.save(encoder, tmp_path / stream)
        items = ROWS if "+" in stream else [r[stream] for r in ROWS]
        again = folder.load(tmp_path / stream)
        assert np.abs(again.encode(items) - encoder.encode(items)).max() < 1e-6
    assert isinstance(again, Projected)
    # A tower of this run can be the beginning of the next one, and one loads into the other.
    TIP({s: folder.load(tmp_path / s) for s in ("image", "table")}, method.config)


def test_images_are_changed_with_the_probability_asked_for():
    never, always = (views(build(augment=p)).one("anchor").data for p in (0.0, 1.0))
    plain = build().image.collate([r["image"] for r in ROWS])
    assert torch.equal(never, plain)
    assert (always - plain).abs().amax((1, 2, 3)).gt(0).all()


def test_what_cannot_work_is_refused():
    method = build()
    with pytest.raises(ConfigError, match="tip takes an image encoder and a table transformer"):
        TIP({"image": method.image.encoder, "table": method.image.encoder})
    for bad in ({"temperature": 0.0}, {"hide": 1.5}, {"augment": -1}):
        with pytest.raises(ConfigError, match=r"expected|give a share"):
            replace(Config(), **bad)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        build()
