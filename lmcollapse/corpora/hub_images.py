"""The image corpus `datasets`: images out of anything that `datasets.load_dataset` opens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from lmcollapse.corpora.hub import DataFiles, facts_of, open_splits, rows_of
from lmcollapse.corpora.parts import IMAGES, Share, divide
from lmcollapse.types import Human, Images, UserError


def datasets(
    *,
    path: str,
    name: str | None = None,
    revision: str | None = None,
    data_files: DataFiles | None = None,
    image_column: str = "image",
    train_split: str = "train",
    heldout_split: str | None = "test",
    heldout_fraction: Share = 0.1,
    size: Annotated[int, Field(gt=0)] | None = None,
) -> Human[Images]:
    """Images of anything that `datasets.load_dataset` opens: MNIST, CIFAR-10, a local folder.

    path : hub id (ylecun/mnist, uoft-cs/cifar10), local folder in the hub's layout, imagefolder with data_files, or
        parquet with data_files.
    name : configuration of the data set.
    revision : branch, tag or commit on the hub.
    data_files : a file, a pattern or a list of them; or a mapping from split to those.
    image_column : the column that holds the images (CIFAR-10: img).
    train_split : the split to train on.
    heldout_split : the split that is held out; null to hold out a share of the training split, chosen by the hash of
        each image.
    heldout_fraction : that share.
    size : side in pixels that images are scaled to; null where all have one size, which they keep.

    Grey images have one channel, all others become red, green and blue. Raises UserError where the data set cannot be
    reached or read, lacks the split or the column, and where the images are not of one size.
    """
    path, splits = open_splits(path, name, revision, data_files, train_split, heldout_split)
    train = _images(splits, train_split, image_column, path, size)
    if heldout_split is None:
        train, heldout = divide(train, heldout_fraction, kind=IMAGES)
    else:
        heldout = _images(splits, heldout_split, image_column, path, size)
    if train.pixels.shape[1:] != heldout.pixels.shape[1:]:
        raise UserError(
            f"data set '{path}': images of {train_split} are {_shape(train.pixels[0])}, those of {heldout_split} "
            f"{_shape(heldout.pixels[0])}; they must be of one size: give corpus.size"
        )
    return Human(train, heldout, facts_of(splits[train_split].info, path, name, revision))


def _images(splits: Mapping[str, Any], split: str, column: str, path: str, size: int | None) -> Images:
    from datasets import Image

    rows = rows_of(splits, split, column, "image_column", path)
    if not isinstance(rows.features[column], Image):
        raise UserError(
            f"column '{column}' of data set '{path}' holds {rows.features[column]}, no images; name another "
            "image_column"
        )
    pixels: list[np.ndarray[Any, np.dtype[np.uint8]]] = []
    grey = None
    for number, row in enumerate(rows.select_columns(column)):
        image = row[column]
        if image is None:
            raise UserError(f"data set '{path}': row {number} of {split} has no image; leave it out")
        grey = image.mode in ("1", "L") if grey is None else grey  # as the first one is
        image = image.convert("L" if grey else "RGB")
        if size is not None:
            image = image.resize((size, size))
        pixels.append(np.asarray(image, np.uint8).reshape(image.height, image.width, -1))
        if pixels[-1].shape != pixels[0].shape:
            raise UserError(
                f"data set '{path}': row {number} of {split} is an image of {_shape(pixels[-1])}, the first one of "
                f"{_shape(pixels[0])}; they must be of one size: give corpus.size"
            )
    if not pixels:
        raise UserError(f"data set '{path}': split '{split}' has no rows; name another")
    return Images(np.stack(pixels), [f"{path} {split} {row}" for row in range(len(pixels))])


def _shape(image: np.ndarray[Any, np.dtype[np.uint8]]) -> str:
    height, width, channels = image.shape
    return f"{width} x {height} pixels, {'grey' if channels == 1 else 'colour'}"
