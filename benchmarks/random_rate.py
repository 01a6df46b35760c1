"""How fast random numbers are made and used inside a compiled loop, by generator.

    python benchmarks/random_rate.py

Each cell is a `lax.scan` whose step draws an array and gives it to a use, which is how a sampler
takes its randomness: `accumulate` adds uniforms to an array, `compare` makes Bernoulli bits of
them, `sum` adds them all up, `normal` adds normal numbers to an array. The generators take turns.
On energax's keys `energax.random.normal`, which kernels use, stands beside `jax.random.normal`, and
`energax.random.permutation`, in which training reads its rows, beside `jax.random.permutation`.
`iota` is the floor: the same program with counters in place of random bits, so a generator cannot
be faster than it and comes near it where the use, and not the generator, sets the pace.

The gain over threefry is taken within each turn. The bar is on `accumulate`, the plainest use, at
the shape where the gain is least; of every other use the least gain over the shapes is told too.
The table goes to the terminal and to `benchmarks/results/random_rate.json`.
"""

import math
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.random import define_prng_impl
from measuring import (
    CONSOLE,
    Bar,
    Spread,
    judge,
    parser,
    per_step,
    ratios,
    save,
    take_turns,
    use_cores,
    versions,
    warn_if_busy,
)
from rich.table import Table

from energax.random import GENERATOR, GENERATOR_VERSION, normal, permutation

SHAPES = ((78400,), (100, 784), (1024, 2), (1_000_000,))
ORDERS = (6400, 60_000)
THREADS = 2
BAR_USE, BAR = "accumulate", 10.0
"""Times threefry's rate, for uniforms inside a scan."""


def _iota_bits(key, bit_width, shape):
    if bit_width != 32:
        raise ValueError("the floor makes 32-bit words only")
    return lax.reshape(lax.iota(jnp.uint32, math.prod(shape)), shape) + key[0]


def _iota_split(key, shape):
    words = key[0] + lax.reshape(lax.iota(jnp.uint32, math.prod(shape)), shape)
    return jnp.stack([words, words], axis=-1)


FLOOR = define_prng_impl(
    key_shape=(2,),
    seed=lambda seed: jnp.stack([seed.astype(jnp.uint32)] * 2),
    split=_iota_split,
    random_bits=_iota_bits,
    fold_in=lambda key, data: key + data.astype(jnp.uint32),
    name="iota",
    tag="io",
)

GENERATORS = {
    "energax": GENERATOR,
    "threefry2x32": "threefry2x32",
    "rbg": "rbg",
    "unsafe_rbg": "unsafe_rbg",
    "iota": FLOOR,
}


def _accumulate(carry, key):
    return carry + jax.random.uniform(key, carry.shape)


def _compare(carry, key):
    return carry ^ (jax.random.uniform(key, carry.shape) < 0.3)


def _sum(carry, key):
    # `carry` has the drawn shape only to say it; the total is all that is used of each draw.
    return carry.at[(0,) * carry.ndim].add(jnp.sum(jax.random.uniform(key, carry.shape)))


def _normal(carry, key):
    return carry + jax.random.normal(key, carry.shape)


USES: dict[str, tuple[Callable, type]] = {
    "accumulate": (_accumulate, jnp.float32),
    "compare": (_compare, jnp.bool_),
    "sum": (_sum, jnp.float32),
    "normal": (_normal, jnp.float32),
}


def _compile(
    generator: Any, function: Callable, dtype: type, shape: tuple[int, ...], n_steps: int
) -> tuple[Callable[[], jax.Array], float]:
    """The compiled loop as a program without arguments, and the seconds compiling it took."""

    def loop(key):
        def step(carry, step_key):
            return function(carry, step_key), None

        keys = jax.random.split(key, n_steps)
        return lax.scan(step, jnp.zeros(shape, dtype), keys)[0]

    key = jax.random.key(0, impl=generator)
    start = time.perf_counter()
    compiled = jax.jit(loop).lower(key).compile()
    return lambda: compiled(key), time.perf_counter() - start


def measure(use: str, shape: tuple[int, ...], n_numbers: int, rounds: int) -> dict[str, Any]:
    """One cell: every generator in turn."""
    size = math.prod(shape)
    n_steps = max(4, n_numbers // size)
    loops = {name: _compile(each, *USES[use], shape, n_steps) for name, each in GENERATORS.items()}
    seconds = take_turns(
        {name: per_step(program, n_steps * size) for name, (program, _) in loops.items()}, rounds
    )
    return {
        "use": use,
        "shape": list(shape),
        "steps": n_steps,
        "seconds_per_number": seconds,
        "threefry_over_energax": vars(ratios(seconds["threefry2x32"], seconds["energax"])),
        "energax_over_floor": vars(ratios(seconds["energax"], seconds["iota"])),
        "compile_seconds": {name: compile_seconds for name, (_, compile_seconds) in loops.items()},
    }


def measure_normals(shape: tuple[int, ...], n_numbers: int, rounds: int) -> dict[str, Any]:
    """JAX's normal numbers and energax's, in turn."""
    size = math.prod(shape)
    n_steps = max(4, n_numbers // size)
    functions = {
        "jax.random.normal": _normal,
        "energax.random.normal": lambda carry, key: carry + normal(key, carry.shape),
    }
    seconds = take_turns(
        {
            name: per_step(
                _compile(GENERATOR, function, jnp.float32, shape, n_steps)[0], n_steps * size
            )
            for name, function in functions.items()
        },
        rounds,
    )
    gain = ratios(seconds["jax.random.normal"], seconds["energax.random.normal"])
    CONSOLE.print(
        f"normal numbers, shape {shape}: "
        + ", ".join(f"{name} {1e9 * statistics.median(s):.2f} ns" for name, s in seconds.items())
        + f", the first over the second {gain}",
        highlight=False,
    )
    return {"shape": list(shape), "seconds_per_number": seconds, "jax_over_energax": vars(gain)}


def measure_orders(n: int, rounds: int) -> dict[str, Any]:
    """Random orders of n numbers, JAX's and energax's, in turn."""
    key = jax.random.key(0, impl=GENERATOR)
    functions = {
        "jax.random.permutation": jax.jit(lambda key: jax.random.permutation(key, n)),
        "energax.random.permutation": jax.jit(lambda key: permutation(key, n)),
    }
    seconds = take_turns(
        {name: per_step(lambda f=f: f(key), 1) for name, f in functions.items()}, rounds
    )
    gain = ratios(seconds["jax.random.permutation"], seconds["energax.random.permutation"])
    CONSOLE.print(
        f"orders of {n} numbers: "
        + ", ".join(f"{name} {1e3 * statistics.median(s):.2f} ms" for name, s in seconds.items())
        + f", the first over the second {gain}",
        highlight=False,
    )
    return {"numbers": n, "seconds": seconds, "jax_over_energax": vars(gain)}


def report(cells: list[dict[str, Any]]) -> None:
    """The table of all cells."""
    table = Table(title="Random numbers in a scan, ns a number (median over the turns)")
    table.add_column("use")
    table.add_column("shape")
    for name in GENERATORS:
        table.add_column(name.replace("_", " ").removesuffix("2x32"), justify="right")
    table.add_column("threefry over energax", justify="right", no_wrap=True)
    table.add_column("compiling, s: energax / threefry", justify="right")
    for cell in cells:
        seconds = cell["seconds_per_number"]
        compiling = [cell["compile_seconds"][name] for name in ("energax", "threefry2x32")]
        table.add_row(
            cell["use"],
            " x ".join(map(str, cell["shape"])),
            *(f"{1e9 * statistics.median(seconds[name]):.2f}" for name in GENERATORS),
            str(Spread(**cell["threefry_over_energax"])),
            "{:.2f} / {:.2f}".format(*compiling),
        )
    CONSOLE.print(table)


def least_gains(cells: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """For each use the shape at which energax gains least over threefry, and how much."""
    found: dict[str, dict[str, Any]] = {}
    for cell in cells:
        gain = cell["threefry_over_energax"]
        if cell["use"] not in found or gain["median"] < found[cell["use"]]["median"]:
            found[cell["use"]] = {"shape": cell["shape"], **gain}
    return found


def main() -> None:
    options = parser(__doc__, "random_rate")
    options.add_argument("--rounds", type=int, help="timed turns of each generator (11; quick: 2)")
    options.add_argument(
        "--numbers", type=int, help="numbers drawn in each timing (2^24; quick: 2^18)"
    )
    options.add_argument("--use", choices=USES, help="one use instead of all")
    arguments = options.parse_args()
    rounds = arguments.rounds or (2 if arguments.quick else 11)
    n_numbers = arguments.numbers or (2**18 if arguments.quick else 2**24)
    shapes = SHAPES[1:3] if arguments.quick else SHAPES
    use_cores(THREADS)
    busy = warn_if_busy()

    uses = [arguments.use] if arguments.use else list(USES)
    cells = [measure(use, shape, n_numbers, rounds) for use in uses for shape in shapes]
    report(cells)
    normals = [measure_normals(shape, n_numbers, rounds) for shape in shapes]
    orders = [measure_orders(n, rounds) for n in ORDERS]
    least = least_gains(cells)
    for use, gain in least.items():
        CONSOLE.print(
            f"least gain over threefry, {use}: {gain['median']:.1f} at shape"
            f" {tuple(gain['shape'])} ({gain['least']:.1f} to {gain['most']:.1f})",
            highlight=False,
        )
    found = []
    if BAR_USE in least:
        name = "energax's uniforms inside a scan over threefry, at the worst shape"
        found.append(Bar(name, least[BAR_USE]["median"], BAR, at_most=False))
    save(
        arguments,
        "random_rate",
        {
            "versions": versions("energax", "jax", "jaxlib"),
            "generator_version": GENERATOR_VERSION,
            "busy_before": busy,
            "threads": THREADS,
            "rounds": rounds,
            "numbers": n_numbers,
            "cells": cells,
            "normals": normals,
            "orders": orders,
            "least_gain_over_threefry": least,
            "bars": judge(found),
        },
    )


if __name__ == "__main__":
    main()
