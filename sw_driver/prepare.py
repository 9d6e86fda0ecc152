"""An image becomes the network's input, as the program says (``program.preparation``).

The same arithmetic as where the network was calibrated: the prepared value is a 32-bit float, and
the integer is that value times 2^fl, rounded half to even and clipped.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hw.program_file import ProgramFile, TensorPlace

__all__ = ["PrepareError", "dequantize", "load_images", "prepare", "quantize"]


class PrepareError(ValueError):
    """An image cannot be used; the message says which, why, and what to do."""


def load_images(path: str | Path, channels: int) -> NDArray:
    """The images of an ``.npy`` or ``.npz`` (``images``) file, or of one image file.

    Parameters
    ----------
    channels : int
        Of the network's input; an image file is read with 1 (grey) or 3 (RGB).

    Returns
    -------
    array
        As in the file; an image file gives (1, H, W, C).

    Raises
    ------
    PrepareError
        If the file cannot be read.
    """
    path = Path(path)
    if path.is_dir():
        raise PrepareError(f"{path} is a folder; name one picture, .npy or .npz file")
    if not path.is_file():
        raise PrepareError(f"{path}: no such file")
    if path.suffix.lower() not in (".npy", ".npz"):
        return _open_image(path, channels)[None]
    try:
        # opened here, because numpy leaves a file that is no archive open
        with path.open("rb") as file:
            loaded = np.load(file, allow_pickle=False)
            if not isinstance(loaded, np.ndarray):
                if "images" not in loaded.files:
                    raise PrepareError(
                        f"{path}: it has no array called images, only {', '.join(loaded.files) or 'nothing'}"
                    )
                loaded = loaded["images"]
    except PrepareError:
        raise
    except Exception as error:  # zlib, zipfile and numpy's parser of headers raise their own kinds
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise PrepareError(f"{path}: not a readable NumPy file ({reason}); copy or write it again") from None
    if loaded.dtype.kind not in "biuf" or loaded.ndim < 2 or not loaded.size:
        raise PrepareError(f"{path}: it holds no images (shape {loaded.shape}, type {loaded.dtype})")
    return loaded


def prepare(images: NDArray, program: ProgramFile, name: str = "the input") -> NDArray[np.float32]:
    """Prepared values (N, C, H, W) of one image or several.

    Parameters
    ----------
    images : array
        Values 0 … 255: (H, W), (H, W, C), (C, H, W), (N, H, W), (N, H, W, C) or (N, C, H, W), whichever
        fits the network's input; both orders fitting, that of ``program.input_layout`` is meant.

    Raises
    ------
    PrepareError
        If no order fits, the size is wrong, or a value is not finite.
    """
    settings = program.preparation
    batch = _channels_last(images, program, name)
    sized = np.stack([_sized(image, program.input.shape, settings, name) for image in batch])
    if not np.isfinite(sized).all():
        raise PrepareError(f"{name}: holds NaN or infinity; remove or repair it")
    if settings.get("channel_order", "RGB") == "BGR":
        sized = sized[..., ::-1]
    mean, std, gain = (
        np.asarray(settings.get(key, default), np.float64)
        for key, default in (("mean", (0.0,)), ("std", (1.0,)), ("gain", (1.0,)))
    )
    scaled = (sized.astype(np.float64) / settings.get("divide", 1.0) - mean) / std * gain
    return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2), np.float32)


def quantize(values: NDArray[np.floating], place: TensorPlace) -> NDArray[np.int64]:
    """Integers of a tensor's format nearest to the values (half to even), clipped."""
    low = -(1 << (place.bits - 1)) if place.signed else 0
    high = low + (1 << place.bits) - 1
    return np.clip(np.rint(np.ldexp(np.asarray(values, np.float64), place.fl)), low, high).astype(np.int64)


def dequantize(integers: NDArray[np.integer], place: TensorPlace) -> NDArray[np.float32]:
    """The values that a tensor's integers stand for."""
    return np.ldexp(np.asarray(integers, np.float64), -place.fl).astype(np.float32)


def _channels_last(images: NDArray, program: ProgramFile, name: str) -> NDArray:
    """The images as (N, H, W, C)."""
    channels, rows, columns = program.input.shape
    free = program.preparation.get("resize") is not None or program.preparation.get("crop", False)

    def fits(size: tuple[int, ...]) -> bool:
        return free or size == (rows, columns)

    shape = images.shape
    if images.ndim == 2 and channels == 1 and fits(shape):
        return images[None, ..., None]
    if images.ndim == 3 and channels == 1 and shape[0] != 1 and shape[2] != 1 and fits(shape[1:]):
        return images[..., None]
    batch = images[None] if images.ndim == 3 else images
    if batch.ndim == 4:
        orders = {
            "NHWC": (batch.shape[3] == channels and fits(batch.shape[1:3]), (0, 1, 2, 3)),
            "NCHW": (batch.shape[1] == channels and fits(batch.shape[2:]), (0, 2, 3, 1)),
        }
        for layout in (program.input_layout, "NHWC", "NCHW"):
            fitting, order = orders[layout]
            if fitting:
                return batch.transpose(order)
    raise PrepareError(
        f"{name}: an array of the shape {shape} does not fit the network's input "
        f"(C, H, W) = {program.input.shape}; "
        "pictures of other sizes need a network that was calibrated with --resize or --crop"
    )


def _sized(image: NDArray, shape: tuple[int, int, int], settings: dict[str, Any], name: str) -> NDArray:
    """An (H, W, C) image resized and cropped to the network's input."""
    _, rows, columns = shape
    if settings.get("resize") is not None:
        image = _resized(image, int(settings["resize"]), name)
    if image.shape[:2] == (rows, columns):
        return image
    if settings.get("crop", False) and image.shape[0] >= rows and image.shape[1] >= columns:
        top, left = (image.shape[0] - rows) // 2, (image.shape[1] - columns) // 2
        return image[top : top + rows, left : left + columns]
    raise PrepareError(
        f"{name}: {image.shape[0]}x{image.shape[1]} pixels, but the network's input is "
        f"{rows}x{columns}; give it in that size"
    )


def _resized(image: NDArray, shorter: int, name: str) -> NDArray:
    scale = shorter / min(image.shape[:2])
    size = (max(shorter, round(image.shape[1] * scale)), max(shorter, round(image.shape[0] * scale)))
    if image.dtype != np.uint8:
        raise PrepareError(
            f"{name}: only 8-bit images can be resized, not {image.dtype}; resize them beforehand"
        )
    Image = _pillow(name, "this network's images are resized")
    pixels = Image.fromarray(image[..., 0] if image.shape[2] == 1 else np.ascontiguousarray(image))
    pixels = pixels.resize(size, Image.Resampling.BILINEAR)
    return np.asarray(pixels).reshape(size[1], size[0], image.shape[2])


def _open_image(path: Path, channels: int) -> NDArray[np.uint8]:
    if channels not in (1, 3):
        raise PrepareError(
            f"{path}: the network's input has {channels} channels, an image file 1 or 3; use an .npy"
        )
    Image = _pillow(str(path), "image files are read")
    try:
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("L" if channels == 1 else "RGB"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise PrepareError(f"{path}: not a readable image ({error})") from None
    return pixels[..., None] if channels == 1 else pixels


def _pillow(name: str, what: str) -> Any:
    try:
        from PIL import Image
    except ImportError:
        raise PrepareError(
            f"{name}: {what} with Pillow, which is not installed: pip install pillow, "
            "or give an .npy file of the network's size"
        ) from None
    return Image
