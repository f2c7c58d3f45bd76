"""Every change of colour against kornia, every crop against arithmetic; images are independent of their batch."""

import numpy as np
import pytest
import torch

from counterpoint.errors import ConfigError, DataError
from counterpoint.views import image as views
from counterpoint.views.image import PatchGrid, SimCLRViews


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def pictures(n: int = 6, channels: int = 3, side: int = 16) -> torch.Tensor:
    return torch.rand(n, channels, side, side, generator=torch.Generator().manual_seed(0))


FACTORS = torch.tensor([0.0, 0.3, 0.9, 1.0, 1.5, 2.0])
TURNS = torch.tensor([-0.5, -0.2, 0.0, 0.1, 0.3, 0.5])


def test_colour_changes_equal_kornia():
    enhance = pytest.importorskip("kornia.enhance")
    x = pictures()
    torch.testing.assert_close(views.adjust_brightness(x, FACTORS), enhance.adjust_brightness_accumulative(x, FACTORS))
    torch.testing.assert_close(
        views.adjust_contrast(x, FACTORS),
        enhance.adjust_contrast_with_mean_subtraction(x, FACTORS),
        rtol=0,
        atol=1e-5,
    )
    torch.testing.assert_close(
        views.adjust_saturation(x, FACTORS),
        enhance.adjust_saturation_with_gray_subtraction(x, FACTORS),
        rtol=0,
        atol=1e-5,
    )
    torch.testing.assert_close(
        views.adjust_hue(x, TURNS), enhance.adjust_hue(x, TURNS * 2 * torch.pi), rtol=0, atol=1e-4
    )
    torch.testing.assert_close(views.solarise(x), enhance.solarize(x, 0.5, 0.0))


def test_blur_equals_kornia():
    filters = pytest.importorskip("kornia.filters")
    x, sigma = pictures(side=40), torch.linspace(0.1, 2, 6)
    expected = filters.gaussian_blur2d(x, (5, 5), torch.stack((sigma, sigma), 1))
    torch.testing.assert_close(views.blur(x, sigma), expected, rtol=0, atol=1e-5)


def test_hue_by_hand():
    red = torch.tensor([1.0, 0.0, 0.0]).view(1, 3, 1, 1)
    turned = views.adjust_hue(red, torch.tensor([1 / 3]))
    torch.testing.assert_close(turned.flatten(), torch.tensor([0.0, 1.0, 0.0]), rtol=0, atol=1e-6)
    grey = torch.full((1, 3, 2, 2), 0.4)
    torch.testing.assert_close(views.adjust_hue(grey, torch.tensor([0.2])), grey)


def test_a_box_of_everything_is_the_image_and_a_flip_its_mirror():
    x = pictures(2)
    boxes = torch.tensor([[0.5, 0.5, 1.0, 1.0]]).repeat(2, 1)
    out = views.crop_resize(x, 16, boxes, torch.tensor([False, True]))
    torch.testing.assert_close(out[0], x[0], rtol=0, atol=1e-5)
    torch.testing.assert_close(out[1], x[1].flip(-1), rtol=0, atol=1e-5)


def test_a_box_of_whole_pixels_is_that_patch():
    x = pictures(1)
    box = torch.tensor([[6 / 16, 12 / 16, 4 / 16, 4 / 16]])  # columns 4 to 7, rows 10 to 13
    out = views.crop_resize(x, 4, box, torch.tensor([False]))
    # The image is four times the view, so the grid is four times denser: compare with the mean of bilinear samples.
    fine = torch.nn.functional.interpolate(x[:, :, 9:15, 3:9], scale_factor=4, mode="bilinear")[:, :, 4:20, 4:20]
    torch.testing.assert_close(out, torch.nn.functional.avg_pool2d(fine, 4), rtol=0, atol=1e-5)


def test_reducing_does_not_alias():
    stripes = torch.zeros(1, 1, 64, 64)
    stripes[..., ::2] = 1  # finer than the view can show: the right answer is flat grey
    out = views.crop_resize(stripes, 16, torch.tensor([[0.5, 0.5, 1.0, 1.0]]), torch.tensor([False]))
    assert (out - 0.5).abs().max() < 1e-5


def test_boxes_lie_inside_and_have_the_asked_area_and_shape():
    x, y, w, h = views.draw_boxes((4000, 3, 30, 20), rng(), (0.2, 0.6), (0.5, 2.0)).T
    assert (x - w / 2 >= -1e-6).all()
    assert (x + w / 2 <= 1 + 1e-6).all()
    assert (y - h / 2 >= -1e-6).all()
    assert (y + h / 2 <= 1 + 1e-6).all()
    assert (w * h).min() >= 0.2 - 1e-5
    assert (w * h).max() <= 0.6 + 1e-5
    shape = (w * 20) / (h * 30)  # in pixels: the image is 20 wide and 30 high
    assert shape.min() >= 0.5 - 1e-5
    assert shape.max() <= 2 + 1e-5
    _, _, w, h = views.draw_boxes((4000, 3, 30, 30), rng(), (0.2, 0.6), (1.0, 1.0)).T
    assert (w * h).mean() == pytest.approx(0.4, abs=0.01)  # uniform; wide boxes are rejected more often


@pytest.mark.parametrize("preset", [SimCLRViews.cifar, SimCLRViews.stl, SimCLRViews.grey_scale])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_views_stay_images_and_are_pure(preset, channels):
    x = pictures(8, channels, 20)
    view = preset(size=12)
    one, again, other = view(x, rng(1)), view(x, rng(1)), view(x, rng(2))
    assert one.shape == (8, channels, 12, 12)
    assert one.dtype == torch.float32
    assert one.min() >= 0
    assert one.max() <= 1
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    torch.testing.assert_close(x, pictures(8, channels, 20))  # the input is untouched
    assert preset()(x, rng(0)).shape == x.shape


def test_images_of_a_batch_get_their_own_draws():
    same = pictures(1).repeat(8, 1, 1, 1)
    out = SimCLRViews()(same, rng())
    assert len({tuple(v.flatten()[:9].tolist()) for v in out}) == 8


def test_a_view_of_nothing_changes_nothing():
    x = pictures()
    still = SimCLRViews(crop=(1, 1), ratio=(1, 1), flip=0, jitter=0, grey=0)
    torch.testing.assert_close(still(x, rng()), x, rtol=0, atol=1e-5)


def test_each_probability_is_followed():
    x = pictures(1).repeat(2000, 1, 1, 1)
    base = {"crop": (1, 1), "ratio": (1, 1), "flip": 0, "jitter": 0, "grey": 0}
    for name in ("flip", "jitter", "grey", "blur", "solarise"):
        out = SimCLRViews(**(base | {name: 0.3}))(x, rng())
        changed = ((out - x).abs().amax((1, 2, 3)) > 1e-3).float().mean()
        assert changed == pytest.approx(0.3, abs=0.045), name  # four deviations


def test_greyscale_has_three_equal_channels():
    out = SimCLRViews(grey=1.0)(pictures(), rng())
    assert (out[:, 0] == out[:, 1]).all()
    assert (out[:, 0] == out[:, 2]).all()


def test_settings_and_inputs_out_of_range_are_sentences():
    for wrong in (
        {"crop": (0.5, 1.5)},
        {"crop": (0.9, 0.2)},
        {"hue": 0.7},
        {"flip": 2},
        {"sigma": (0.0, 1.0)},
    ):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            SimCLRViews(**wrong)
    with pytest.raises(DataError, match=r"uint8 \(2, 3, 4, 4\)"):
        SimCLRViews()(torch.zeros(2, 3, 4, 4, dtype=torch.uint8), rng())


def test_cells_of_a_grid_are_cut_where_they_lie():
    # A view that changes nothing, and pixels that know their place: 12 wide, cells of 4 at 0, 4 and 8.
    place = torch.arange(144.0).view(1, 1, 12, 12) / 143
    same = SimCLRViews(crop=(1, 1), ratio=(1, 1), flip=0, jitter=0, grey=0)
    cells = PatchGrid(view=same, patch=4, count=9, jitter=0)(place, np.random.default_rng(0))
    assert cells.shape == (9, 1, 4, 4)
    corners = {(round(float(c[0, 0, 0]) * 143) // 12, round(float(c[0, 0, 0]) * 143) % 12) for c in cells}
    assert corners == {(r, c) for r in (0, 4, 8) for c in (0, 4, 8)}
    top, left = divmod(round(float(cells[0, 0, 0, 0]) * 143), 12)
    torch.testing.assert_close(cells[0, 0], place[0, 0, top : top + 4, left : left + 4], atol=1e-5, rtol=0)


def test_some_cells_of_each_image_shifted_but_inside():
    images = torch.stack([torch.full((1, 12, 12), i / 4) for i in range(5)])
    same = SimCLRViews(crop=(1, 1), ratio=(1, 1), flip=0, jitter=0, grey=0)
    grid = PatchGrid(view=same, patch=5, count=3, jitter=9)
    cells = grid(images, np.random.default_rng(0))
    assert cells.shape == (15, 1, 5, 5)
    torch.testing.assert_close(cells.mean((1, 2, 3)), (torch.arange(5) / 4).repeat_interleave(3), atol=1e-5, rtol=0)
    with pytest.raises(ConfigError, match="do not fit into a view of 12"):
        PatchGrid(view=same, patch=13)(images, np.random.default_rng(0))
    with pytest.raises(ConfigError, match="1 to 9 cells"):
        PatchGrid(view=same, count=10)
