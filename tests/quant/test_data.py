"""Loading and preparing images."""

import numpy as np
import pytest
from PIL import Image

from quant.data import DataError, ImageSet, load_images, prepare
from quant.fixed_model import Preparation


def prepared(images, preparation=None, shape=(3, 4, 5), **settings):
    batches = list(prepare(ImageSet("set", images, None), preparation or Preparation(), shape, **settings))
    return np.concatenate(batches)


def random_images(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


def test_preparation_formula_and_channel_order():
    images = random_images(3, 4, 5, 3)
    found = prepared(images, Preparation(255.0, (0.1, 0.2, 0.3), (1.0, 2.0, 4.0), "BGR"), batch_size=2)
    assert found.dtype == np.float32
    assert found.shape == (3, 3, 4, 5)
    expected = (images[..., ::-1] / 255.0 - [0.1, 0.2, 0.3]) / [1.0, 2.0, 4.0]
    np.testing.assert_array_equal(found, expected.transpose(0, 3, 1, 2).astype(np.float32))


def test_layouts_are_told_by_the_networks_input():
    images = random_images(2, 4, 5, 3)
    first = prepared(images)
    np.testing.assert_array_equal(first, images.transpose(0, 3, 1, 2))
    np.testing.assert_array_equal(prepared(np.ascontiguousarray(images.transpose(0, 3, 1, 2))), first)
    np.testing.assert_array_equal(prepared(first), first)  # prepared floats pass unchanged
    np.testing.assert_array_equal(prepared(images.reshape(2, -1), input_layout="NHWC"), first)
    np.testing.assert_array_equal(prepared(first.reshape(2, -1), input_layout="NCHW"), first)
    grey = random_images(2, 4, 5)
    for images in (grey, grey[..., None], grey[:, None], grey.reshape(2, -1)):
        np.testing.assert_array_equal(prepared(images, shape=(1, 4, 5)), grey[:, None])
    # a network of fully connected layers takes the elements in their order
    np.testing.assert_array_equal(prepared(grey, shape=(20, 1, 1)), grey.reshape(2, 20, 1, 1))
    # 3 rows of 3 channels: only the columns tell
    odd = random_images(2, 3, 5, 3)
    np.testing.assert_array_equal(prepared(odd, shape=(3, 3, 5)), odd.transpose(0, 3, 1, 2))


def test_ambiguous_layout_is_an_error_until_it_is_said():
    images = random_images(2, 3, 3, 3)
    with pytest.raises(DataError, match="say which with --layout NHWC or --layout NCHW"):
        prepared(images, shape=(3, 3, 3))
    np.testing.assert_array_equal(prepared(images, shape=(3, 3, 3), layout="NCHW"), images)
    np.testing.assert_array_equal(
        prepared(images, shape=(3, 3, 3), layout="NHWC"), images.transpose(0, 3, 1, 2)
    )


def test_crop_and_resize():
    images = random_images(2, 8, 9, 3)
    np.testing.assert_array_equal(
        prepared(images, Preparation(crop=True)), images[:, 2:6, 2:7].transpose(0, 3, 1, 2)
    )
    half = prepared(random_images(1, 8, 10, 3), Preparation(resize=4))
    assert half.shape == (1, 3, 4, 5)
    flat = prepared(np.full((1, 8, 20, 3), 7, np.uint8), Preparation(resize=4, crop=True))
    assert np.all(flat == 7)
    assert flat.shape == (1, 3, 4, 5)


@pytest.mark.parametrize(
    ("images", "preparation", "message"),
    [
        (random_images(2, 4, 5, 4), Preparation(), r"\(4, 5, 4\) do not have the network's 3 channels"),
        (random_images(2, 4, 5), Preparation(), r"\(4, 5\) do not fit"),
        (
            random_images(2, 8, 9, 3),
            Preparation(),
            "set: image 0: 8x9 pixels, but the network's input is 4x5; use --crop",
        ),
        (random_images(2, 2, 9, 3), Preparation(crop=True), "2x9 pixels.*use --resize to enlarge it"),
        (
            random_images(2, 4, 5, 3).astype(np.float32),
            Preparation(resize=4),
            "only 8-bit images can be resized",
        ),
        (
            random_images(2, 4, 5, 3),
            Preparation(mean=(1.0, 2.0)),
            "mean has 2 values, but the network has 3 input channels",
        ),
        (
            random_images(2, 4, 5, 3),
            Preparation(std=(1.0, 0.0, 1.0)),
            "divide and std must be finite and not 0",
        ),
        (random_images(2, 4, 5, 3), Preparation(divide=0), "divide and std must be finite and not 0"),
        (random_images(2, 4, 5, 3), Preparation(mean=(float("nan"),)), "mean must be finite"),
        (random_images(2, 4, 5, 3), Preparation(channel_order="GBR"), "must be RGB, BGR or L, not GBR"),
    ],
)
def test_unusable_arrays(images, preparation, message):
    with pytest.raises(DataError, match=message):
        prepared(images, preparation)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_not_finite_names_the_image(value):
    images = np.zeros((5, 3, 4, 5), np.float32)
    images[3, 1, 2, 0] = value
    with pytest.raises(DataError, match="set: image 3: holds NaN or infinity"):
        prepared(images, batch_size=2)


def test_bgr_needs_three_channels():
    with pytest.raises(DataError, match="BGR needs 3 input channels"):
        prepared(random_images(2, 4, 5), Preparation(channel_order="BGR"), (1, 4, 5))


# files


def test_npz_and_npy(tmp_path):
    images, labels = random_images(7, 4, 5, 3), np.arange(7, dtype=np.uint8)
    np.savez(tmp_path / "a.npz", images=images, labels=labels)
    np.save(tmp_path / "a.npy", images)
    found = load_images(tmp_path / "a.npz")
    np.testing.assert_array_equal(found.images, images)
    assert found.labels is not None
    assert found.labels.tolist() == list(range(7))
    assert found.spread(3).labels.tolist() == [0, 2, 4]
    assert found.first(2).labels.tolist() == [0, 1]
    assert len(found.first(None)) == len(found.spread(100)) == 7
    plain = load_images(tmp_path / "a.npy")
    assert plain.labels is None
    np.testing.assert_array_equal(plain.images, images)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"pictures": np.zeros((1, 2, 2, 3))}, "no array called images, only pictures"),
        ({"images": np.zeros((0, 2, 2, 3))}, "holds no images"),
        ({"images": np.zeros(4)}, "holds no images"),
        (
            {"images": np.zeros((2, 2, 2, 3)), "labels": np.zeros(3, np.int64)},
            "2 images need as many integer labels",
        ),
        ({"images": np.zeros((2, 2, 2, 3)), "labels": np.zeros(2)}, "2 images need as many integer labels"),
        ({"images": np.array(["a", "b"]).reshape(2, 1)}, "images must be numbers"),
        ({"images": np.array([{}, {}]).reshape(2, 1)}, "not a readable NumPy file"),
    ],
)
def test_unusable_npz(tmp_path, arrays, message):
    np.savez(tmp_path / "bad.npz", **arrays)
    with pytest.raises(DataError, match=message):
        load_images(tmp_path / "bad.npz")


def test_files_that_are_no_images(tmp_path):
    np.save(tmp_path / "whole.npy", random_images(7, 4, 5, 3))
    whole = (tmp_path / "whole.npy").read_bytes()
    (tmp_path / "half.npy").write_bytes(whole[:200])
    (tmp_path / "text.npz").write_text("not a zip")
    (tmp_path / "text.csv").write_text("1,2")
    (tmp_path / "empty").mkdir()
    for name, message in (
        ("missing.npz", "no such file"),
        ("half.npy", "not a readable NumPy file"),
        ("text.npz", "not a readable NumPy file"),
        ("text.csv", "npz or .npy file or as a folder"),
        ("empty", "the folder holds no images"),
    ):
        with pytest.raises(DataError, match=message):
            load_images(tmp_path / name)


def save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def test_folders(tmp_path):
    images = random_images(4, 4, 5, 3)
    for name, pixels in zip(("0007", "0012", "0003", "0900"), images):
        save(tmp_path / "numbered" / f"{name}.png", pixels)
    found = load_images(tmp_path / "numbered")
    assert found.labels.tolist() == [3, 7, 12, 900]
    np.testing.assert_array_equal(prepared(found.images), images[[2, 0, 1, 3]].transpose(0, 3, 1, 2))
    for name, pixels in zip(("cat/a", "dog/b", "cat/c", "ant/d"), images):
        save(tmp_path / "classes" / f"{name}.png", pixels)
    assert load_images(tmp_path / "classes").labels.tolist() == [0, 1, 1, 2]
    for name, pixels in zip(("10/a", "2/b"), images):
        save(tmp_path / "numbers" / f"{name}.png", pixels)
    assert load_images(tmp_path / "numbers").labels.tolist() == [10, 2]
    save(tmp_path / "plain" / "one.png", images[0])
    assert load_images(tmp_path / "plain").labels is None
    assert len(load_images(tmp_path / "plain" / "one.png")) == 1


def test_image_files_get_the_networks_channels(tmp_path):
    save(tmp_path / "grey.png", np.full((4, 5), 9, np.uint8))
    save(tmp_path / "alpha.png", np.full((4, 5, 4), 200, np.uint8))
    assert prepared(load_images(tmp_path).images).shape == (2, 3, 4, 5)
    assert prepared(load_images(tmp_path).images, shape=(1, 4, 5)).shape == (2, 1, 4, 5)
    with pytest.raises(DataError, match="has 2 channels, an image file 1 or 3"):
        prepared(load_images(tmp_path).images, shape=(2, 4, 5))


def test_unreadable_image_is_named(tmp_path):
    save(tmp_path / "a.png", random_images(4, 5, 3))
    whole = (tmp_path / "a.png").read_bytes()
    (tmp_path / "b.png").write_bytes(whole[:60])
    with pytest.raises(DataError, match=r"b.png: not a readable image"):
        prepared(load_images(tmp_path).images)
