"""Back to numbers from what a page to browse holds of them."""

import base64

import numpy as np

from mesaopt.browse.arrays import DTYPE, Typed


def read(found: Typed) -> np.ndarray:
    """The values that `mesaopt.browse.arrays.typed` wrote."""
    if isinstance(found, list):
        return np.asarray(found, dtype=DTYPE)
    flat = np.frombuffer(base64.b64decode(found["bdata"]), dtype=DTYPE)
    return flat.reshape([int(size) for size in found["shape"].split(", ")]) if "shape" in found else flat
