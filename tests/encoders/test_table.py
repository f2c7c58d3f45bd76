"""A missing cell is seen by nobody but itself; what stands in its place is the token, or the commonest value."""

import numpy as np
import pytest
import torch

from counterpoint.encoders import folder
from counterpoint.encoders.fusion import ImageTable, Interaction
from counterpoint.encoders.image import ConvNet, ConvNetConfig
from counterpoint.encoders.table import TableTransformer, TableTransformerConfig
from counterpoint.errors import ConfigError, DataError
from counterpoint.modalities.table import Columns

COLUMNS = Columns.fit({"kind": ["b", "a", "b"], "place": ["x", "y", "y"], "price": [1.0, 2.0, 6.0]})
ROW = {"kind": "a", "place": "x", "price": 4.0}


def build(seed: int = 0, **settings) -> TableTransformer:
    torch.manual_seed(seed)
    shape = {"dim": 16, "layers": 2, "heads": 4, "categories": COLUMNS.categories, "numbers": COLUMNS.numbers}
    encoder = TableTransformer(TableTransformerConfig(**{**shape, **settings})).eval()
    for p in encoder.parameters():
        torch.nn.init.normal_(p, std=0.3)
    return encoder


def tokens(encoder: TableTransformer, *rows: dict) -> torch.Tensor:
    with torch.no_grad():
        return encoder.tokens(encoder.collate(rows))[0]


def test_the_input_is_value_plus_column_normalised() -> None:
    encoder = build(layers=1)
    encoder.blocks = torch.nn.ModuleList()
    got = tokens(encoder, {**ROW, "place": None})[0]
    number = (4.0 - 3.0) / np.std([1, 2, 6])
    before = torch.stack(
        (
            torch.zeros(16),
            encoder.value.weight[1],  # b, a; y, x
            encoder.token.weight[0],
            encoder.number.weight[:, 0] * number + encoder.number.bias,
        )
    )
    torch.testing.assert_close(got, encoder.norm(before + encoder.column.weight).detach())


def test_a_missing_cell_changes_nothing_but_its_own_token() -> None:
    encoder = build()
    one = tokens(encoder, {**ROW, "place": None})[0]
    with torch.no_grad():
        encoder.token.weight.normal_()
    two = tokens(encoder, {**ROW, "place": None})[0]
    assert (one - two).abs().amax(1).gt(1e-3).tolist() == [False, False, True, False]
    assert torch.equal(one[[0, 1, 3]], two[[0, 1, 3]])


def test_without_hiding_the_token_is_seen_by_all() -> None:
    encoder = build(hide=False)
    one = tokens(encoder, {**ROW, "place": None})[0]
    with torch.no_grad():
        encoder.token.weight.normal_()
    assert (one - tokens(encoder, {**ROW, "place": None})[0]).abs().amax(1).gt(1e-4).all()


def test_imputation_is_the_commonest_value_and_the_mean() -> None:
    encoder = build(missing="impute", hide=False)
    assert encoder.token is None
    whole = tokens(encoder, {"kind": "b", "place": "y", "price": 3.0})
    torch.testing.assert_close(tokens(encoder, {"kind": None, "place": "z", "price": None}), whole)


def test_a_row_without_any_cell_has_a_finite_embedding() -> None:
    for settings in ({}, {"hide": False}, {"missing": "impute"}):
        z = build(**settings).encode([dict.fromkeys(ROW), ROW])
        assert np.isfinite(z).all()
        assert np.abs(z[0] - z[1]).max() > 1e-3


def test_one_sort_of_columns_will_do() -> None:
    for shape in ({"categories": {}}, {"numbers": {}}):
        assert np.isfinite(build(**shape).encode([ROW])).all()
    with pytest.raises(ConfigError, match="needs columns"):
        build(categories={}, numbers={})


def joint() -> ImageTable:
    table = build()
    image = ConvNet(ConvNetConfig(size=16, stem_width=8, widths=(8, 16), depths=(1, 1)))
    return ImageTable(image, table, Interaction(16, image.dim, layers=2, heads=2, mlp=3.0)).eval()


def picture(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (16, 16, 3), dtype=np.uint8)


def test_the_joint_embedding_reads_image_and_row_and_comes_back_from_its_folder(tmp_path) -> None:
    encoder = joint()
    with torch.no_grad():
        for p in encoder.interaction.parameters():
            torch.nn.init.normal_(p, std=0.3)
    rows = [
        {"image": picture(0), "table": ROW},
        {"image": picture(1), "table": ROW},
        {"image": picture(0), "table": {**ROW, "price": None}},
    ]
    z = encoder.encode(rows)
    assert min(np.abs(z[0] - z[1]).max(), np.abs(z[0] - z[2]).max()) > 1e-3
    folder.save(encoder, tmp_path / "model")
    again = folder.load(tmp_path / "model")
    assert again.config == encoder.config
    assert np.abs(again.encode(rows) - z).max() < 1e-6


def test_an_image_cannot_be_missing() -> None:
    with pytest.raises(DataError, match=r"has no image.*the image may not"):
        joint().encode([{"image": None, "table": ROW}])
    with pytest.raises(ConfigError, match="An image encoder and a table transformer"):
        ImageTable(build(), build(), Interaction(16, 16))
