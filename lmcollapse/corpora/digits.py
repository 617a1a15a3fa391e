"""The image corpus `digits`."""

from __future__ import annotations

import numpy as np

from lmcollapse.corpora.parts import IMAGES, Share, divide
from lmcollapse.types import Human, Images


def digits(*, heldout_fraction: Share = 0.2) -> Human[Images]:
    """1,797 handwritten digits of 8 x 8 grey pixels that come with scikit-learn; needs no download.

    They are the test set of the UCI "optical recognition of handwritten digits" (Alpaydin and Kaynak 1998); their 17
    levels of grey become 0 to 255.

    heldout_fraction : share of the images that is held out, chosen by their hash.
    """
    import sklearn
    from sklearn.datasets import load_digits

    levels = load_digits().images
    pixels = np.round(levels * (255 / 16)).astype(np.uint8)[..., None]
    images = Images(pixels, [f"digits {number}" for number in range(len(pixels))])
    train, heldout = divide(images, heldout_fraction, kind=IMAGES)
    return Human(train, heldout, {"scikit-learn": sklearn.__version__})
