"""Images for calibration and evaluation: loaded, prepared as the network wants them, in batches."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from quant.fixed_model import Preparation
from quant.graph import Graph, Shape

__all__ = [
    "Batches",
    "DataError",
    "ImageSet",
    "check_preparation",
    "images_per_batch",
    "labels_that_fit",
    "load_images",
    "prepare",
]

_IMAGE_SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")


#: Called for each pass over the images: the same float batches (N, C, H, W) every time.
Batches = Callable[[], Iterable[NDArray[np.float32]]]

#: Bytes that the float feature maps of one batch may take, and images in a batch at most.
_BATCH_BYTES = 128 << 20
_MOST_IMAGES = 50


class DataError(ValueError):
    """Images cannot be used; the message says which file or image, why, and what to do."""


@dataclass(frozen=True)
class ImageSet:
    """Images that have not been prepared yet.

    Attributes
    ----------
    name : str
        Where they come from, for messages.
    images : array (N, ...) or list of paths
    labels : int64 array (N,) or None
    """

    name: str
    images: NDArray | Sequence[Path]
    labels: NDArray[np.int64] | None

    def __len__(self) -> int:
        return len(self.images)

    def take(self, indices: Sequence[int] | NDArray[np.integer]) -> ImageSet:
        """The images at these positions."""
        images = (
            self.images[np.asarray(indices, np.int64)]
            if isinstance(self.images, np.ndarray)
            else [self.images[index] for index in indices]
        )
        return ImageSet(
            self.name, images, None if self.labels is None else self.labels[np.asarray(indices, np.int64)]
        )

    def first(self, count: int | None) -> ImageSet:
        """The first ``count`` images, or all."""
        return self if count is None or count >= len(self) else self.take(range(count))

    def spread(self, count: int | None) -> ImageSet:
        """``count`` images evenly spread over the set, so that one sorted by class is represented; or all."""
        if count is None or count >= len(self):
            return self
        return self.take(np.arange(count) * len(self) // count)


def load_images(path: str | Path) -> ImageSet:
    """Images of an ``.npz`` (``images``, ``labels``), an ``.npy``, a folder, or one image file.

    In a folder, a file's name is its label if all names are integers; else the class folders are the
    labels, by number if all are named by one, else in order of their names.

    Raises
    ------
    DataError
        If the path cannot be read or holds no images, or if the labels do not match them.
    """
    path = Path(path)
    if path.is_dir():
        return _load_folder(path)
    if not path.exists():
        raise DataError(f"{path}: no such file or folder")
    if path.suffix.lower() in _IMAGE_SUFFIXES:
        return ImageSet(str(path), [path], None)
    if path.suffix.lower() not in (".npz", ".npy"):
        raise DataError(f"{path}: images come as an .npz or .npy file or as a folder of images")
    try:
        if path.suffix.lower() == ".npy":
            images, labels = np.load(path, allow_pickle=False, mmap_mode="r"), None
        else:
            # opened here, because numpy leaves a file that is no archive open
            with path.open("rb") as file, np.load(file, allow_pickle=False) as loaded:
                if "images" not in loaded.files:
                    raise DataError(
                        f"{path}: it has no array called images, only {', '.join(loaded.files) or 'nothing'}"
                    )
                images, labels = loaded["images"], loaded["labels"] if "labels" in loaded.files else None
    except DataError:
        raise
    except Exception as error:  # zlib, zipfile and numpy's parser of headers raise their own kinds
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise DataError(f"{path}: not a readable NumPy file ({reason}); copy or write it again") from None
    if images.dtype.kind not in "biuf":
        raise DataError(f"{path}: images must be numbers, not {images.dtype}")
    if images.ndim < 2 or not images.size:
        raise DataError(f"{path}: it holds no images (the array has the shape {images.shape})")
    if labels is not None:
        labels = np.asarray(labels)
        labels = labels.reshape(-1) if labels.shape == (len(images), 1) else labels
        if labels.shape != (len(images),) or labels.dtype.kind not in "iu":
            raise DataError(
                f"{path}: {len(images)} images need as many integer labels, not "
                f"an array of the shape {labels.shape} and type {labels.dtype}"
            )
        labels = labels.astype(np.int64)
    return ImageSet(str(path), images, labels)


def _load_folder(path: Path) -> ImageSet:
    files = sorted(
        file for file in path.rglob("*") if file.suffix.lower() in _IMAGE_SUFFIXES and file.is_file()
    )
    if not files:
        raise DataError(f"{path}: the folder holds no images")
    if all(file.stem.isdecimal() for file in files) and all(file.parent == path for file in files):
        return ImageSet(str(path), files, np.array([int(file.stem) for file in files], np.int64))
    classes = sorted({file.relative_to(path).parts[0] for file in files if file.parent != path})
    if not classes or any(file.parent == path for file in files):
        return ImageSet(str(path), files, None)
    numbered = all(name.isdecimal() for name in classes)
    number = {name: int(name) if numbered else index for index, name in enumerate(classes)}
    return ImageSet(
        str(path), files, np.array([number[file.relative_to(path).parts[0]] for file in files], np.int64)
    )


def labels_that_fit(images: ImageSet, outputs: int) -> ImageSet:
    """The images; without their labels, and with a note, if these are not below ``outputs``."""
    labels = images.labels
    if labels is None or 0 <= labels.min() <= labels.max() < outputs:
        return images
    print(
        f"note: labels of {images.name} go from {labels.min()} to {labels.max()}, but the network has "
        f"{outputs} outputs; labels are not used",
        file=sys.stderr,
    )
    return replace(images, labels=None)


def images_per_batch(graph: Graph) -> int:
    """How many images a batch should have so that all its feature maps fit into memory easily."""
    values = sum(channels * rows * columns for channels, rows, columns in graph.shapes.values())
    return max(1, min(_MOST_IMAGES, _BATCH_BYTES // (4 * values)))


def check_preparation(preparation: Preparation, channels: int) -> None:
    """Refuse a preparation that does not fit a network with so many input channels.

    Raises
    ------
    DataError
    """
    for name, values in (
        ("mean", preparation.mean), ("std", preparation.std), ("gain", preparation.gain)
    ):
        if len(values) not in (1, channels):
            raise DataError(
                f"{name} has {len(values)} values, but the network has {channels} input channels; "
                f"give one for each or one for all"
            )
        if not np.all(np.isfinite(values)):
            raise DataError(f"{name} must be finite numbers")
    if preparation.divide == 0 or not np.isfinite(preparation.divide) or 0.0 in preparation.std:
        raise DataError("divide and std must be finite and not 0")
    if preparation.channel_order not in ("RGB", "BGR", "L"):
        raise DataError(f"the channel order must be RGB, BGR or L, not {preparation.channel_order}")
    if preparation.channel_order == "BGR" and channels != 3:
        raise DataError(f"the channel order BGR needs 3 input channels; the network has {channels}")


def prepare(
    data: ImageSet,
    preparation: Preparation,
    shape: Shape,
    input_layout: str = "NCHW",
    layout: str | None = None,
    batch_size: int = 64,
) -> Iterator[NDArray[np.float32]]:
    """Batches (N, C, H, W) of prepared images.

    Parameters
    ----------
    shape : (C, H, W)
        The network's input.
    input_layout : str
        Order of the original model's input: that of flat images, and of single ones.
    layout : str or None
        ``"NHWC"`` or ``"NCHW"`` for arrays that could be either.

    Raises
    ------
    DataError
        If images have other channels or another size, hold NaN or infinity, or cannot be read.
    """
    check_preparation(preparation, shape[0])
    for start in range(0, len(data), batch_size):
        if isinstance(data.images, np.ndarray):
            raw = _channels_last(
                data.name,
                data.images[start : start + batch_size],
                data.images.shape,
                shape,
                input_layout,
                layout,
                preparation,
            )
        else:
            raw = [_open(file, shape[0]) for file in data.images[start : start + batch_size]]
        batch = np.stack(
            [_sized(_name(data, start + index), image, preparation, shape) for index, image in enumerate(raw)]
        )
        finite = np.isfinite(batch).all(axis=(1, 2, 3))
        if not finite.all():
            raise DataError(
                f"{_name(data, start + int(np.argmin(finite)))}: holds NaN or infinity; remove or repair it"
            )
        yield _normalised(batch, preparation)


def _name(data: ImageSet, index: int) -> str:
    return f"{data.name}: image {index}" if isinstance(data.images, np.ndarray) else str(data.images[index])


def _normalised(batch: NDArray, preparation: Preparation) -> NDArray[np.float32]:
    if preparation.channel_order == "BGR":
        batch = batch[..., ::-1]
    mean, std, gain = (
        np.asarray(values, np.float64) for values in (preparation.mean, preparation.std, preparation.gain)
    )
    with np.errstate(over="ignore", invalid="ignore"):  # whoever reads the images refuses infinity
        scaled = ((batch.astype(np.float64) / preparation.divide - mean) / std * gain).astype(np.float32)
    return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2), np.float32)


def _channels_last(
    name: str,
    batch: NDArray,
    whole: tuple[int, ...],
    shape: Shape,
    input_layout: str,
    layout: str | None,
    preparation: Preparation,
) -> NDArray:
    """An array of images as (N, H, W, C)."""
    channels, rows, columns = shape
    sizes = {"NHWC": (rows, columns, channels), "NCHW": (channels, rows, columns)}
    features = channels * rows * columns
    if whole[1:] == (features,) or (rows == columns == 1 and math.prod(whole[1:]) == features):
        batch = batch.reshape(-1, *sizes[layout or input_layout])
        return batch if (layout or input_layout) == "NHWC" else batch.transpose(0, 2, 3, 1)
    if len(whole) == 3 and channels == 1:
        return batch[..., None]
    if len(whole) != 4:
        raise DataError(
            f"{name}: images of the shape {whole[1:]} do not fit the network's input (C, H, W) = {shape}"
        )
    fitting = {"NHWC": whole[3] == channels, "NCHW": whole[1] == channels}
    if layout is None and all(fitting.values()) and preparation.resize is None and not preparation.crop:
        fitting = {key: whole[1:] == size for key, size in sizes.items()}
    possible = [key for key, fits in fitting.items() if fits and layout in (None, key)]
    if not possible:
        raise DataError(
            f"{name}: images of the shape {whole[1:]} do not have the network's {channels} channels"
            + (f" in the layout {layout}" if layout else "")
            + f"; its input is (C, H, W) = {shape}"
        )
    if len(possible) > 1:
        raise DataError(
            f"{name}: images of the shape {whole[1:]} may be rows, columns, channels or channels, "
            "rows, columns; say which with --layout NHWC or --layout NCHW"
        )
    return batch if possible[0] == "NHWC" else batch.transpose(0, 2, 3, 1)


def _open(file: Path, channels: int) -> NDArray[np.uint8]:
    if channels not in (1, 3):
        raise DataError(
            f"{file}: the network's input has {channels} channels, an image file 1 or 3; use an .npz"
        )
    try:
        with Image.open(file) as image:
            pixels = np.asarray(image.convert("L" if channels == 1 else "RGB"))
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError, SyntaxError, ValueError) as error:
        raise DataError(f"{file}: not a readable image ({error})") from None
    return pixels[..., None] if channels == 1 else pixels


def _sized(name: str, image: NDArray, preparation: Preparation, shape: Shape) -> NDArray:
    """An (H, W, C) image resized and cropped to the network's input."""
    channels, rows, columns = shape
    if image.shape[2] != channels:
        raise DataError(f"{name}: it has {image.shape[2]} channels, the network's input {channels}")
    if preparation.resize is not None:
        image = _resized(name, image, preparation.resize)
    if image.shape[:2] == (rows, columns):
        return image
    if preparation.crop and image.shape[0] >= rows and image.shape[1] >= columns:
        top, left = (image.shape[0] - rows) // 2, (image.shape[1] - columns) // 2
        return image[top : top + rows, left : left + columns]
    advice = "use --resize to enlarge it" if preparation.crop else "use --crop, or --resize N and --crop"
    raise DataError(
        f"{name}: {image.shape[0]}x{image.shape[1]} pixels, but the network's input is "
        f"{rows}x{columns}; {advice}"
    )


def _resized(name: str, image: NDArray, shorter: int) -> NDArray:
    if image.dtype != np.uint8:
        raise DataError(
            f"{name}: only 8-bit images can be resized, not {image.dtype}; resize them beforehand"
        )
    scale = shorter / min(image.shape[:2])
    size = (max(shorter, round(image.shape[1] * scale)), max(shorter, round(image.shape[0] * scale)))
    pixels = Image.fromarray(image[..., 0] if image.shape[2] == 1 else image).resize(
        size, Image.Resampling.BILINEAR
    )
    return np.asarray(pixels).reshape(size[1], size[0], image.shape[2])
