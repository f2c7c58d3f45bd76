"""All ways to give an image agree, sizes and channels are converted, and a bad one is named."""

import io

import numpy as np
import pytest
import torch

from counterpoint.errors import DataError
from counterpoint.modalities.image import pixels


def photo(mode: str = "RGB", shape: tuple[int, int] = (24, 16)):
    Image = pytest.importorskip("PIL.Image")
    values = np.random.default_rng(3).integers(0, 256, (*shape, 3), dtype=np.uint8)
    return Image.fromarray(values).convert(mode)


def test_all_ways_to_give_an_image_agree(tmp_path):
    image = photo(shape=(16, 16))
    array = np.asarray(image)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    image.save(tmp_path / "a.png")
    tensor = torch.from_numpy(array.copy()).movedim(-1, 0)
    given = [
        image,
        array,
        tensor,
        tensor / 255,
        array.astype(np.float64) / 255,
        array.astype(np.uint16) * 257,
        buffer.getvalue(),
        {"bytes": buffer.getvalue(), "path": None},
        {"bytes": None, "path": str(tmp_path / "a.png")},
        tmp_path / "a.png",
    ]
    out = pixels(given, 16)
    assert out.shape == (10, 3, 16, 16)
    torch.testing.assert_close(out, (tensor / 255).expand(10, -1, -1, -1), rtol=0, atol=1e-6)


def test_an_image_decodes_alike_alone_and_in_company():
    images = [photo(shape=s) for s in ((16, 16), (24, 16), (5, 90), (200, 100))]
    together = pixels(images, 16)
    for i, image in enumerate(images):
        assert torch.equal(pixels([image], 16)[0], together[i])


def test_cropping_keeps_the_shape_and_squashing_everything():
    wide = torch.zeros(1, 8, 24)
    wide[..., :8] = 1  # the left third
    assert pixels([wide], 8, channels=1).sum() == 0
    assert pixels([wide], 8, channels=1, fit="squash").mean() == pytest.approx(1 / 3, abs=1e-4)


def test_channels_are_converted():
    assert torch.equal(pixels([photo("L")], 8)[0, 0], pixels([photo("L")], 8, channels=1)[0, 0])
    clear = torch.zeros(4, 4, 4)  # black, fully transparent
    assert (pixels([clear], 4) == 1).all()  # shows white
    assert (pixels([photo("RGBA")], 8, channels=4)[:, 3] == 1).all()
    torch.testing.assert_close(pixels([photo("RGBA")], 8), pixels([photo()], 8))
    assert pixels([photo("P"), photo("CMYK"), photo("1")], 8).shape == (3, 3, 8, 8)
    assert pixels([np.zeros((4, 4), dtype=bool)], 4, channels=1).sum() == 0
    assert pixels([torch.rand(7, 9, 9)], 9, channels=7).shape == (1, 7, 9, 9)


def test_an_image_that_cannot_be_used_is_named():
    good = torch.rand(3, 4, 4)
    for bad, why in (
        (good * 300, "floats must lie"),
        (torch.full((3, 4, 4), float("nan")), "floats must lie"),
        (torch.rand(2, 4, 4), "2 channels"),
        (torch.rand(3, 0, 4), "none of them empty"),
        (b"no picture at all", "cannot identify"),
        ("nowhere.png", "there is no image file"),
        (17, "a int is no image"),
    ):
        with pytest.raises(DataError, match="Image 1 of 2") as caught:
            pixels([good, bad], 4)
        assert why in str(caught.value)
