"""Reading a folder of images, all of one size."""

from pathlib import Path
from typing import Any

import numpy as np

from energax.io._checks import as_numbers, one_line
from energax.io._dataset import Dataset, describe

IMAGE_SUFFIXES = frozenset(
    (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pgm", ".ppm")
)

# Modes kept as they are; all else (palettes, CMYK, ...) becomes RGB.
_KEPT = {"1", "L", "RGB", "RGBA", "I;16", "I", "F"}


def read_images(path: Path) -> Dataset:
    """The images of a folder; with images in its subfolders, their names are the labels."""
    here, below = _images_in(path), {}
    for folder in sorted(p for p in path.iterdir() if p.is_dir()):
        inside = _images_in(folder)
        if inside:
            below[folder.name] = inside
    if here and below:
        raise ValueError(
            f"the folder holds images itself ({here[0].name}) and in subfolders"
            f" ({next(iter(below))}): put all of them in one place"
        )
    if not here and not below:
        raise ValueError(
            "the folder holds no images; expected files such as .png, .jpg or .bmp, in it or in"
            " subfolders named by label"
        )
    files = here or [file for inside in below.values() for file in inside]
    rows = as_numbers(_stacked(files, path), "the folder")
    names = [name for name, inside in below.items() for _ in inside]
    labels = np.asarray(names) if below else None
    words = f"{len(rows)} images, {describe(rows)}"
    if below:
        words += f"; labels from {len(below)} subfolders"
    return Dataset(
        rows, labels=labels, source=str(path), description=f"{path.resolve().name or path}: {words}"
    )


def read_image(path: Path) -> Dataset:
    """One image, as one row."""
    rows = as_numbers(_opened(path, path.parent)[None], "the image")
    return Dataset(rows, source=str(path), description=f"{path.name}: 1 image, {describe(rows)}")


def _images_in(folder: Path) -> list[Path]:
    return sorted(
        file
        for file in folder.iterdir()
        if file.suffix.lower() in IMAGE_SUFFIXES
        and file.is_file()
        and not file.name.startswith(".")
    )


def _stacked(files: list[Path], root: Path) -> np.ndarray:
    first = _opened(files[0], root)
    rows = np.empty((len(files), *first.shape), first.dtype)
    for row, file in enumerate(files):
        image = _opened(file, root)
        if image.shape != first.shape or image.dtype != first.dtype:
            raise ValueError(
                "all images must be of one size and kind, but"
                f" {files[0].relative_to(root)} is {describe(first)} and"
                f" {file.relative_to(root)} is {describe(image)} (height, width, channels)"
            )
        rows[row] = image
    return rows


def _opened(file: Path, root: Path) -> np.ndarray:
    pillow: Any
    try:
        from PIL import Image as pillow
    except ImportError:
        raise ValueError('images need pillow: pip install "energax[files]"') from None
    name = file.relative_to(root)
    try:
        with pillow.open(file) as image:
            if getattr(image, "n_frames", 1) > 1:
                raise ValueError(f"it has {image.n_frames} frames, and one was expected")
            image.load()
            mode = image.mode
            if mode not in _KEPT:
                image = image.convert("RGBA" if mode in ("LA", "PA") else "RGB")
            return np.array(image)
    except Exception as error:  # pillow raises many kinds: a broken chunk, a bomb, a bad palette
        raise ValueError(f"image {name} cannot be read: {one_line(error)}") from None
