"""Preparation equals the one that calibration and evaluation use."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from software_board import small_program

from hw.program_file import ProgramFile, TensorPlace
from sw_driver.prepare import PrepareError, dequantize, load_images, prepare, quantize


def program_for(shape: tuple[int, int, int], layout: str = "NCHW", **preparation: object) -> ProgramFile:
    place = TensorPlace("input", shape, 8, True, 4, 0)
    return dataclasses.replace(small_program(), input=place, preparation=preparation, input_layout=layout)


@settings(max_examples=60, deadline=None)
@given(
    data=st.data(),
    channels=st.sampled_from([1, 3]),
    divide=st.sampled_from([1.0, 255.0, 127.5]),
    order=st.sampled_from(["RGB", "BGR"]),
    resize=st.sampled_from([None, 6, 9]),
    crop=st.booleans(),
    each=st.booleans(),
)
def test_equals_the_preparation_of_calibration(
    data: st.DataObject, channels: int, divide: float, order: str, resize: int | None, crop: bool, each: bool
) -> None:
    images = pytest.importorskip("quant.data", reason="the calibration tools are not installed")
    from quant.fixed_model import Preparation
    from quant.number_format import Format

    order = order if channels == 3 else "L"
    values = [data.draw(st.floats(-3, 130, allow_nan=False)) for _ in range(channels if each else 1)]
    deviations = [data.draw(st.sampled_from([1.0, 0.229, 58.395])) for _ in values]
    gain = tuple(data.draw(st.sampled_from([1.0, 255 / 256, 1.0583332777023315])) for _ in values)
    settings_ = Preparation(divide, tuple(values), tuple(deviations), order, resize, crop, gain)
    size = (8, 10) if resize or crop else (6, 6)
    pixels = np.random.default_rng(data.draw(st.integers(0, 99))).integers(
        0, 256, (3, *size, channels), np.uint8
    )
    shape = (channels, 6, 6)
    try:
        expected = np.concatenate(
            list(images.prepare(images.ImageSet("x", pixels, None), settings_, shape, "NHWC"))
        )
    except images.DataError:
        with pytest.raises(PrepareError):
            prepare(pixels, program_for(shape, "NHWC", **dataclasses.asdict(settings_)))
        return
    got = prepare(pixels, program_for(shape, "NHWC", **dataclasses.asdict(settings_)))
    assert got.dtype == np.float32
    assert np.array_equal(got, expected)
    for form, place in (
        (Format(8, True, 4), TensorPlace("x", shape, 8, True, 4, 0)),
        (Format(6, False, -1), TensorPlace("x", shape, 6, False, -1, 0)),
    ):
        assert np.array_equal(quantize(got, place), form.quantize(expected))
        assert np.array_equal(
            dequantize(quantize(got, place), place), form.dequantize(form.quantize(expected))
        )


def test_image_files_equal_the_calibration_tools(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    images = pytest.importorskip("quant.data", reason="the calibration tools are not installed")
    from quant.fixed_model import Preparation

    path = tmp_path / "photo.png"
    image.fromarray(np.random.default_rng(1).integers(0, 256, (40, 30, 3), np.uint8)).save(path)
    for channels, order in ((3, "BGR"), (1, "L")):
        settings_ = Preparation(1.0, (104.0, 117.0, 123.0)[:channels], (1.0,), order, 16, True)
        expected = next(images.prepare(images.load_images(path), settings_, (channels, 12, 14)))
        got = prepare(
            load_images(path, channels), program_for((channels, 12, 14), **dataclasses.asdict(settings_))
        )
        assert np.array_equal(got, expected)


def test_rounding_is_half_to_even_and_clipped() -> None:
    place = TensorPlace("x", (1, 1, 6), 8, True, 1, 0)
    assert quantize(np.array([0.25, 0.75, -0.25, 1.25, 1000, -1000]), place).tolist() == [
        0,
        2,
        0,
        2,
        127,
        -128,
    ]


@pytest.mark.parametrize(
    ("shape", "layout", "images"),
    [
        ((1, 4, 5), "NCHW", (4, 5)),
        ((1, 4, 5), "NCHW", (7, 4, 5)),
        ((1, 4, 5), "NHWC", (4, 5, 1)),
        ((1, 4, 5), "NCHW", (1, 4, 5)),
        ((3, 4, 5), "NCHW", (3, 4, 5)),
        ((3, 4, 5), "NCHW", (4, 5, 3)),
        ((3, 4, 5), "NHWC", (2, 4, 5, 3)),
        ((3, 4, 5), "NCHW", (2, 3, 4, 5)),
        ((3, 3, 3), "NHWC", (3, 3, 3)),
    ],
)
def test_orders_of_arrays(shape: tuple[int, ...], layout: str, images: tuple[int, ...]) -> None:
    values = np.arange(np.prod(images)).reshape(images).astype(np.float32)
    got = prepare(values, program_for(shape, layout))
    assert got.shape[1:] == shape
    count, channels = got.shape[0], shape[0]
    if images[-1] == channels and (images[-3:-1] == shape[1:]) and (layout == "NHWC" or images[-3:] != shape):
        expected = values.reshape(count, *shape[1:], channels).transpose(0, 3, 1, 2)
    else:
        expected = values.reshape(count, *shape)
    assert np.array_equal(got, expected)


@pytest.mark.parametrize("images", [(5, 5), (2, 4, 4), (4, 5, 2), (4, 5, 3, 1, 1), (20,)])
def test_arrays_that_do_not_fit(images: tuple[int, ...]) -> None:
    with pytest.raises(PrepareError, match="does not fit"):
        prepare(np.zeros(images), program_for((3, 4, 5)), "photo.npy")


def test_bad_values_and_sizes() -> None:
    with pytest.raises(PrepareError, match="NaN or infinity"):
        prepare(np.full((3, 4, 5), np.nan), program_for((3, 4, 5)))
    with pytest.raises(PrepareError, match="3x9 pixels, but the network's input is 4x5"):
        prepare(np.zeros((3, 9, 3)), program_for((3, 4, 5), "NHWC", crop=True))
    with pytest.raises(PrepareError, match="only 8-bit images can be resized"):
        prepare(np.zeros((9, 9, 3)), program_for((3, 4, 5), "NHWC", resize=5, crop=True))


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    broken = tmp_path / "broken.npy"
    broken.write_bytes(b"\x93NUMPY\1\0")
    noise = tmp_path / "noise.png"
    noise.write_bytes(b"not an image")
    other = tmp_path / "other.npz"
    np.savez(other, pictures=np.zeros(3))
    empty = tmp_path / "empty.npy"
    np.save(empty, np.zeros((0, 3, 4, 5)))
    for path, text in (
        (tmp_path / "none.npy", "no such file"),
        (broken, "not a readable NumPy file"),
        (noise, "not a readable image"),
        (other, "no array called images, only pictures"),
        (empty, "holds no images"),
        (tmp_path, "is a folder; name one picture"),
    ):
        with pytest.raises(PrepareError, match=text):
            load_images(path, 3)
    with pytest.raises(PrepareError, match="5 channels, an image file 1 or 3"):
        load_images(noise, 5)


def test_without_pillow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    path = tmp_path / "photo.png"
    path.write_bytes(b"")
    with pytest.raises(PrepareError, match="pip install pillow"):
        load_images(path, 3)
