"""What float32 costs annealed importance sampling: rounding errors of log weights, in nats.

    python benchmarks/annealing_precision.py

An RBM of 784 visible units, its hidden ones few enough for the exact log Z, is annealed over
1,000 to 100,000 temperatures in float32. The same chains, state by state, are weighed again in
float64 within the same program: what the float32 weights differ by is rounding and nothing else.
Three ways of adding up are compared:

- `energax`: what `anneal` does, increments formed as sums of small differences, added with
  compensation;
- `running sum`: the same increments, simply added up;
- `energies`: the difference of the energies at two temperatures, simply added up, which is how
  the formula is usually written.

That the program follows `anneal` is checked: their weights must agree. Results go to the terminal
and to `benchmarks/results/annealing_precision.json`.
"""

import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from measuring import CONSOLE, Bar, judge, parser, save, use_cores, versions, warn_if_busy
from rich.table import Table

import energax as ex
from energax.diagnostics import log_mean_weight
from energax.exact import log_partition_enumerated
from energax.kernels import start_chains, step_chains
from energax.partition import anneal

THREADS = 2
N_VISIBLE, N_HIDDEN = 784, 16
SCALE = 0.2
N_CHAINS = 100
WAYS = ("energax", "running sum", "energies")
BAR = 1e-3
"""Nats by which rounding may move a float32 log weight: a thousandth part of what matters."""


def machine() -> tuple[ex.RBM, ex.Bernoulli]:
    """A float32 machine with strong enough weights to be worth annealing, and a base."""
    random = np.random.default_rng(0)
    rbm = ex.RBM(
        (SCALE * random.standard_normal((N_VISIBLE, N_HIDDEN))).astype(np.float32),
        (random.standard_normal(N_VISIBLE) - 1).astype(np.float32),
        (random.standard_normal(N_HIDDEN) - 1).astype(np.float32),
    )
    return rbm, ex.Bernoulli(rbm.visible_bias)


def doubled(model: Any) -> Any:
    """The same numbers in float64."""
    return jax.tree.map(lambda leaf: leaf.astype(jnp.float64), model)


@jax.jit
def reweighed(start: Any, betas: jax.Array, key: jax.Array) -> tuple[dict, jax.Array]:
    """The chains of `anneal`, their float32 weights in three ways, and their float64 weights.

    Keys are spent as `anneal` spends them; float64 sees the float32 states and temperatures.
    """
    kernel = ex.BlockGibbs()
    wide = doubled(start)
    key_draw, key_init, key_walk = jax.random.split(key, 3)
    x = jax.vmap(start.base.draw)(jax.random.split(key_draw, N_CHAINS))
    states = start_chains(start.at(betas[0]), kernel, x, key_init)
    zero = jnp.zeros((N_CHAINS,), jnp.float32)

    def weigh(sums: tuple, states: Any, before: jax.Array, beta: jax.Array) -> tuple:
        total, error, running, energies, exact = sums
        low, high = start.at(before), start.at(beta)
        part = jax.vmap(lambda terms: low.log_increment(terms, beta))(states.terms)
        raised = total + part
        bigger = jnp.abs(total) >= jnp.abs(part)
        lost = jnp.where(bigger, (total - raised) + part, (part - raised) + total)
        naive = jax.vmap(lambda t: low.energy_of(t) - high.energy_of(t))(states.terms)
        x = states.x.astype(jnp.float64)
        terms = jax.vmap(wide.terms)(x)
        narrow = wide.at(before.astype(jnp.float64))
        precise = jax.vmap(lambda t: narrow.log_increment(t, beta.astype(jnp.float64)))(terms)
        return raised, error + lost, running + part, energies + naive, exact + precise

    def step(carry: tuple, inputs: tuple) -> tuple[tuple, None]:
        states, sums = carry
        index, beta, before = inputs
        sums = weigh(sums, states, before, beta)
        model = start.at(beta)
        states = jax.vmap(kernel.retemper, in_axes=(None, 0))(model, states)
        states, _ = step_chains(model, kernel, states, jax.random.fold_in(key_walk, index))
        return (states, sums), None

    n = betas.shape[0] - 1
    sums = (zero, zero, zero, zero, zero.astype(jnp.float64))
    inputs = (jnp.arange(n - 1), betas[1:-1], betas[:-2])
    (states, sums), _ = lax.scan(step, (states, sums), inputs)
    total, error, running, energies, exact = weigh(sums, states, betas[-2], betas[-1])
    ways = (total + error, running, energies)
    return dict(zip(WAYS, ways, strict=True)), exact


def measure(n_temperatures: int) -> dict[str, Any]:
    """Rounding errors over one ladder."""
    rbm, base = machine()
    start, key = ex.path(base, rbm), ex.key(n_temperatures)
    betas = jnp.asarray(np.linspace(0, 1, n_temperatures + 1), jnp.float32)
    clock = time.perf_counter()
    run = anneal(start, ex.BlockGibbs(), betas, key, n_chains=N_CHAINS)
    shipped = np.asarray(run.log_weights)
    seconds = time.perf_counter() - clock
    if shipped.dtype != np.float32:
        raise RuntimeError(f"anneal ran in {shipped.dtype}, not in float32")
    found, exact = reweighed(start, betas, key)
    exact = np.asarray(exact)
    followed = np.abs(np.asarray(found["energax"]) - shipped) < 1e-4
    if followed.mean() < 0.5:
        raise RuntimeError("the program that weighs in float64 no longer follows `anneal`")

    base_value = float(base.log_normaliser())
    weighed = np.asarray(found["energax"], np.float64)
    value, precise = log_mean_weight(weighed), log_mean_weight(exact)
    known = float(log_partition_enumerated(doubled(rbm)))
    errors = {way: np.asarray(weights, np.float64) - exact for way, weights in found.items()}
    return {
        "temperatures": n_temperatures,
        "seconds_with_compiling": seconds,
        "chains_followed": float(followed.mean()),
        "largest_error_nats": {way: float(np.abs(e).max()) for way, e in errors.items()},
        "rms_error_nats": {way: float(np.sqrt(np.mean(e**2))) for way, e in errors.items()},
        "log_partition": base_value + value.value,
        "log_partition_float64": base_value + precise.value,
        "std_error": value.std_error,
        "exact_log_partition": known,
    }


def report(rows: list[dict[str, Any]]) -> None:
    """Both tables."""
    table = Table(title=f"Largest rounding error of {N_CHAINS} float32 log weights, nats")
    for name in ("temperatures", *WAYS, "chains followed"):
        table.add_column(name, justify="right")
    for row in rows:
        cells = [f"{row['largest_error_nats'][way]:.1e}" for way in WAYS]
        table.add_row(f"{row['temperatures']:,}", *cells, f"{row['chains_followed']:.0%}")
    CONSOLE.print(table)
    table = Table(title="log Z, nats: the exact value, and what is off")
    for name in ("temperatures", "exact", "estimate off by", "std error", "of it, rounding"):
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(
            f"{row['temperatures']:,}",
            f"{row['exact_log_partition']:.4f}",
            f"{row['log_partition'] - row['exact_log_partition']:+.5f}",
            f"{row['std_error']:.5f}",
            f"{row['log_partition'] - row['log_partition_float64']:+.1e}",
        )
    CONSOLE.print(table)


def main() -> None:
    arguments = parser(__doc__, "annealing_precision").parse_args()
    use_cores(THREADS)
    busy = warn_if_busy()
    jax.config.update("jax_enable_x64", True)  # for the float64 side; the other is typed float32
    ladders = (100, 1_000) if arguments.quick else (1_000, 3_000, 10_000, 30_000, 100_000)
    rows = [measure(n) for n in ladders]
    report(rows)
    largest = max(row["largest_error_nats"]["energax"] for row in rows)
    bar = Bar("largest rounding error of a float32 log weight, nats", largest, BAR)
    save(
        arguments,
        "annealing_precision",
        {
            "versions": versions("energax", "jax", "jaxlib"),
            "busy_before": busy,
            "threads": THREADS,
            "shape": [N_VISIBLE, N_HIDDEN],
            "weights_scale": SCALE,
            "chains": N_CHAINS,
            "rows": rows,
            "bars": judge([bar]),
        },
    )


if __name__ == "__main__":
    main()
