"""The network of `gibbs_with_gradients.py`: weights of an MLP that both packages are given."""

from itertools import pairwise

import numpy as np

SIZES = (784, 256, 256, 1)


def layers() -> list[tuple[np.ndarray, np.ndarray]]:
    """Weights (out, in) and biases of each layer, float32; SiLU between layers."""
    generator = np.random.default_rng(0)
    found = []
    for n_in, n_out in pairwise(SIZES):
        weight = generator.normal(size=(n_out, n_in)) * np.sqrt(2 / n_in)
        found.append((weight.astype(np.float32), np.zeros(n_out, np.float32)))
    # A steeper last layer, so that flips matter.
    weight, bias = found[-1]
    found[-1] = 8 * weight, bias
    return found
