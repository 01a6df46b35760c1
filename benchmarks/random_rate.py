"""How fast random numbers are made and used inside a compiled loop, by generator.

    python benchmarks/random_rate.py

Each cell is a `lax.scan` whose step draws an array and gives it to a consumer, which is how a
sampler uses randomness. The generators take turns, and a cell is the median over the turns.
`iota` is the floor: the same program with counters in place of random bits, so a generator cannot
be faster than it and comes near it where the consumer, and not the generator, sets the pace.
The table goes to the terminal and to `benchmarks/results/random_rate.json`.
"""

import math
import statistics
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.random import define_prng_impl
from measuring import parser, save
from rich.console import Console
from rich.table import Table

from energax.random import GENERATOR, GENERATOR_VERSION

SHAPES = ((78400,), (100, 784), (1024, 2), (1_000_000,))
TARGET = 10.0  # times threefry's rate, for the elementwise consumers


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


CONSUMERS: dict[str, tuple[Callable, type]] = {
    "accumulate": (_accumulate, jnp.float32),
    "compare": (_compare, jnp.bool_),
    "sum": (_sum, jnp.float32),
    "normal": (_normal, jnp.float32),
}


def _compile(generator, consumer: Callable, dtype: type, shape: tuple[int, ...], n_steps: int):
    """The compiled loop, its first argument, and the seconds tracing and compiling took."""

    def loop(key):
        def step(carry, step_key):
            return consumer(carry, step_key), None

        keys = jax.random.split(key, n_steps)
        return lax.scan(step, jnp.zeros(shape, dtype), keys)[0]

    key = jax.random.key(0, impl=generator)
    start = time.perf_counter()
    compiled = jax.jit(loop).lower(key).compile()
    return compiled, key, time.perf_counter() - start


def _measure(consumer: str, shape: tuple[int, ...], n_draws: int, repeats: int) -> list[dict]:
    n_steps = max(4, n_draws // math.prod(shape))
    function, dtype = CONSUMERS[consumer]
    loops = {
        name: _compile(generator, function, dtype, shape, n_steps)
        for name, generator in GENERATORS.items()
    }
    seconds: dict[str, list[float]] = {name: [] for name in loops}
    for repeat in range(repeats + 1):
        for name, (compiled, key, _) in loops.items():
            start = time.perf_counter()
            compiled(key).block_until_ready()
            if repeat:  # the first turn warms caches and thread pools
                seconds[name].append(time.perf_counter() - start)
    draws = n_steps * math.prod(shape)
    return [
        {
            "consumer": consumer,
            "shape": list(shape),
            "generator": name,
            "n_steps": n_steps,
            "draws_per_second": draws / statistics.median(times),
            "fastest_draws_per_second": draws / min(times),
            "compile_seconds": loops[name][2],
        }
        for name, times in seconds.items()
    ]


def _print(rows: list[dict]) -> None:
    table = Table(title="Random numbers in a scan: millions a second (times threefry's rate)")
    table.add_column("consumer")
    table.add_column("shape")
    for name in GENERATORS:
        table.add_column(name, justify="right")
    table.add_column("compile s: energax / threefry", justify="right")
    cells: dict[tuple, dict[str, dict]] = {}
    for row in rows:
        cells.setdefault((row["consumer"], tuple(row["shape"])), {})[row["generator"]] = row
    for (consumer, shape), cell in cells.items():
        base = cell["threefry2x32"]["draws_per_second"]
        rates = [cell[name]["draws_per_second"] for name in GENERATORS]
        compiles = [cell[name]["compile_seconds"] for name in ("energax", "threefry2x32")]
        table.add_row(
            consumer,
            str(shape),
            *(f"{rate / 1e6:.0f} ({rate / base:.1f}x)" for rate in rates),
            " / ".join(f"{seconds:.2f}" for seconds in compiles),
        )
    Console(width=130).print(table)


def main() -> None:
    options = parser(__doc__, "random_rate")
    options.add_argument("--repeats", type=int, help="timed turns of each generator (7; quick: 1)")
    options.add_argument(
        "--draws", type=int, help="numbers drawn in each timing (2^24; quick: 2^20)"
    )
    options.add_argument("--consumer", choices=CONSUMERS, help="one consumer instead of all")
    arguments = options.parse_args()
    repeats = arguments.repeats or (1 if arguments.quick else 7)
    n_draws = arguments.draws or (2**20 if arguments.quick else 2**24)

    rows = []
    for consumer in [arguments.consumer] if arguments.consumer else CONSUMERS:
        for shape in SHAPES:
            rows += _measure(consumer, shape, n_draws, repeats)
    _print(rows)

    rate = {
        (row["consumer"], tuple(row["shape"]), row["generator"]): row["draws_per_second"]
        for row in rows
    }
    least = min(
        (
            rate[consumer, shape, "energax"] / rate[consumer, shape, "threefry2x32"]
            for consumer, shape, generator in rate
            if generator == "energax" and consumer in ("accumulate", "compare")
        ),
        default=None,
    )
    if least is not None:
        print(f"least gain over threefry, elementwise consumers: {least:.1f}x (target {TARGET}x)")
    save(
        arguments,
        "random_rate",
        {
            "generator_version": GENERATOR_VERSION,
            "repeats": repeats,
            "least_elementwise_gain_over_threefry": least,
            "target": TARGET,
            "rows": rows,
        },
    )


if __name__ == "__main__":
    main()
