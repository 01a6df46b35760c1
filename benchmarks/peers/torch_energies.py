"""The networks of `deep_training.py` in PyTorch, layer by layer those of energax; E, not f."""

import torch
from torch import nn


def dense(n: int, width: int) -> nn.Module:
    """Two hidden layers."""
    silu = nn.SiLU()
    return nn.Sequential(
        nn.Linear(n, width), silu, nn.Linear(width, width), silu, nn.Linear(width, 1)
    )


class Residual(nn.Module):
    """Tiles of 2 x 2 pixels, then a residual block at either of two resolutions."""

    def __init__(self, first: int, second: int):
        super().__init__()
        self.stems = nn.ModuleList(
            [
                nn.Conv2d(1, first, 2, 2, bias=False),
                nn.Conv2d(first, second, 2, 2, bias=False),
            ]
        )
        self.inner = nn.ModuleList([nn.Conv2d(c, c, 3, padding=1) for c in (first, second)])
        self.outer = nn.ModuleList([nn.Conv2d(c, c, 3, padding=1) for c in (first, second)])
        self.readout = nn.Linear(second, 1, bias=False)
        self.phi = nn.SiLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = x[:, None]
        for stem, inner, outer in zip(self.stems, self.inner, self.outer, strict=True):
            h = stem(h)
            h = h + outer(self.phi(inner(self.phi(h))))
        return -self.readout(self.phi(h).sum((2, 3)))[:, 0]


class Squeezed(nn.Module):
    """A module whose output loses its last axis, of length 1."""

    def __init__(self, module: nn.Module):
        super().__init__()
        self.module = module

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return -self.module(x)[:, 0]


def energy_for(settings: dict) -> nn.Module:
    """The energy that the settings name."""
    if settings["network"] == "dense":
        return Squeezed(dense(2, settings["width"]))
    return Residual(*settings["channels"])
