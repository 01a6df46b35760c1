"""An energy of your own: write E(x), and sample it, combine it and find its log Z.

    python examples/own_energy.py

The density lies along a ring of radius 2. Nothing is known of it but its formula. A Gaussian prior
is multiplied in, and log Z is annealed and held against quadrature on a grid.
"""

import argparse

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

import energax as ex


class Ring(ex.AbstractEnergy):
    """E(x) = ((|x| - radius) / width)^2 / 2, over two real numbers."""

    radius: Float[Array, ""]
    width: Float[Array, ""]
    space: ex.Real = ex.Real(2)

    def energy(self, x: Float[Array, "2"]) -> Float[Array, ""]:
        return 0.5 * ((jnp.linalg.norm(x) - self.radius) / self.width) ** 2


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--draws", type=int, default=16_000, help="draws in all")
    parser.add_argument("--thin", type=int, default=20, help="steps from one draw to the next")
    parser.add_argument("--temperatures", type=int, default=1000, help="of annealing")
    parser.add_argument("--points", type=int, default=400, help="of the grid, a dimension")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    key_draw, key_z = jax.random.split(ex.key(arguments.seed))

    ring = Ring(jnp.asarray(2.0), jnp.asarray(0.3))
    prior = ex.Gaussian(jnp.array([1.0, 0.0]), 1.0)
    posterior = ring * prior  # densities multiply: energies add
    print(f"E(2, 0) = {float(ring.energy(jnp.array([2.0, 0.0]))):.3f}, at the ring's own radius")

    draws = ex.sample(posterior, arguments.draws, key=key_draw, thin=arguments.thin)
    print(draws.summary)
    print(f"mean {draws.flat.mean(0)}, R-hat {draws.rhat}")

    annealed = ex.log_partition(posterior, key=key_z, n_temperatures=arguments.temperatures)
    grid = ex.log_partition_on_grid(posterior, n_points=arguments.points, low=-6.0, high=6.0)
    print(annealed.summary)
    print(f"log Z = {float(grid):.4f} (quadrature, {arguments.points} points a dimension)")


if __name__ == "__main__":
    main()
