"""What the workers of `elimination.py` are given: many Ising models, each on a graph of its own."""

from typing import NamedTuple

import numpy as np


class Model(NamedTuple):
    """E(s) = - sum_ij J_ij s_i s_j - sum_i h_i s_i."""

    edges: np.ndarray
    couplings: np.ndarray
    field: np.ndarray


def read_models(settings: dict) -> list[Model]:
    """The models of the file that the settings name, in order."""
    with np.load(settings["models"]) as file:
        n = int(file["n"])
        return [Model(*(file[f"{name}_{i}"] for name in Model._fields)) for i in range(n)]
