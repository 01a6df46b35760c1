"""log Z with the exact methods switched off: do intervals cover, and is nothing false trusted?

    python benchmarks/coverage.py              # 1,000 models and the hard ones, some 20 minutes
    python benchmarks/coverage.py --models 50  # fewer of them

Random models of ten families whose log Z is known otherwise: Ising glasses and ferromagnets and
RBMs (enumerated), networks in 1 and 2 dimensions (a fine grid), mixtures of three normal densities
in 2 to 50 dimensions given as functions only (in closed form). Models of one family share their
compiled programs. Asked: of the trusted intervals at 95%, so many hold the truth that a one-sided
binomial test at 1% does not object; at least 80% are trusted; and none is trusted and off by more
than five standard errors.

Then models made to deceive: two far modes of unequal mass and width in 2 to 20 dimensions, as a
mixture that can be drawn from and as a function that cannot; ferromagnets deep below the critical
temperature in a small field; machines with couplings so large that their chains stick. Each has to
come out right or untrusted.

What was done is kept in the results file after each family, and a run that was stopped goes on
from there with --resume.
"""

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from measuring import CONSOLE, Bar, judge, parser, save, use_cores, versions
from rich.table import Table
from scipy import stats

import energax as ex
from energax.exact import log_partition_enumerated, log_partition_on_grid

LEVEL = 0.95
Case = tuple[ex.AbstractEnergy, float]

_enumerated = eqx.filter_jit(log_partition_enumerated)
_PAIRS = [(i, j) for i in range(12) for j in range(i)]


class Normals(eqx.Module):
    """log of a weighted sum of normal densities, times a constant: a function, nothing more."""

    mean: jax.Array
    scale: jax.Array
    weight: jax.Array
    constant: jax.Array

    def __call__(self, x: jax.Array) -> jax.Array:
        each = -0.5 * jnp.sum(((x - self.mean) / self.scale) ** 2, -1)
        each = each - jnp.sum(jnp.log(self.scale), -1) - 0.5 * x.size * jnp.log(2 * jnp.pi)
        return jax.nn.logsumexp(each + jnp.log(self.weight)) + self.constant


class Network(eqx.Module):
    """A layer of tanh and a wide bowl."""

    into: jax.Array
    bias: jax.Array
    out: jax.Array

    def __call__(self, x: jax.Array) -> jax.Array:
        hidden = jnp.tanh(self.into @ x.reshape(-1) + self.bias)
        return self.out @ hidden - jnp.sum(x**2) / 8


def _single(*arrays: Any) -> Iterator[jax.Array]:
    return (jnp.asarray(a, jnp.float32) for a in arrays)


def glass(generator: np.random.Generator) -> Case:
    """12 spins, all coupled, at temperatures from 0.5 to 3.3."""
    strength = generator.uniform(0.3, 2.0) / np.sqrt(12)
    coupling, field = _single(
        strength * generator.normal(size=len(_PAIRS)), 0.3 * generator.normal(size=12)
    )
    model = ex.Ising(ex.Graph(_PAIRS, 12), coupling, field)
    return model, float(_enumerated(model))


def ferromagnet(generator: np.random.Generator) -> Case:
    """A torus of 16 spins, from hot to frozen, in a field."""
    coupling, field = _single(generator.uniform(0.1, 0.8), generator.uniform(-0.3, 0.3))
    model = ex.Ising((4, 4), coupling, field)
    return model, float(_enumerated(model))


def machine(generator: np.random.Generator) -> Case:
    """20 visible and 10 hidden units."""
    weights = generator.uniform(0.1, 1.2) * generator.normal(size=(20, 10))
    model = ex.RBM(*_single(weights, generator.normal(size=20), generator.normal(size=10)))
    return model, float(_enumerated(model))


def network(n: int) -> Callable[[np.random.Generator], Case]:
    """16 hidden units over n real entries."""

    def make(generator: np.random.Generator) -> Case:
        scale = generator.uniform(0.3, 1.5)
        function = Network(
            *_single(
                1.5 * generator.normal(size=(16, n)),
                2 * generator.normal(size=16),
                scale * generator.normal(size=16),
            )
        )
        model = ex.NeuralEnergy(function, ex.Real(n))
        points = 4000 if n == 1 else 800
        return model, float(log_partition_on_grid(model, n_points=points, low=-16.0, high=16.0))

    return make


def normals(n: int) -> Callable[[np.random.Generator], Case]:
    """Three modes, their means up to some 4 apart, of unequal widths and masses."""

    def make(generator: np.random.Generator) -> Case:
        mean = generator.uniform(0, 4) / np.sqrt(2 * n) * generator.normal(size=(3, n))
        scale = np.exp(0.2 * generator.normal(size=(3, n)))
        constant = np.float32(5 * generator.normal())
        function = Normals(*_single(mean, scale, generator.dirichlet(np.full(3, 3.0)), constant))
        return ex.NeuralEnergy(function, ex.Real(n)), float(constant)

    return make


FAMILIES: dict[str, Callable[[np.random.Generator], Case]] = {
    "Ising glass, 12 spins": glass,
    "ferromagnet, 4 x 4": ferromagnet,
    "RBM, 20 x 10": machine,
    "network, 1 dimension": network(1),
    "network, 2 dimensions": network(2),
} | {f"normals, {n} dimensions": normals(n) for n in (2, 5, 10, 20, 50)}


def far_modes(n: int, gap: float, drawn: bool) -> Case:
    """A wide mode of mass 0.3 and one half as wide of mass 0.7, `gap` apart."""
    mean = np.zeros((2, n))
    mean[:, 0] = -gap / 2, gap / 2
    scale, weight = np.array([1.0, 0.5]), np.array([0.3, 0.7])
    if drawn:
        parts = [ex.Gaussian(m, np.full(n, s)) for m, s in zip(mean, scale, strict=True)]
        return ex.mixture(parts, weight), 0.0
    function = Normals(*_single(mean, np.repeat(scale[:, None], n, 1), weight, 0.0))
    return ex.NeuralEnergy(function, ex.Real(n)), 0.0


def frozen(coupling: float, field: float) -> Case:
    """A ferromagnet whose two phases the field hardly tells apart."""
    model = ex.Ising((4, 4), np.float32(coupling), np.float32(field))
    return model, float(_enumerated(model))


def sticky(scale: float) -> Case:
    """A machine whose chains stay for long where they are."""
    generator = np.random.default_rng(7)
    weights = scale * generator.normal(size=(20, 10))
    model = ex.RBM(*_single(weights, -weights.sum(1) / 2, -weights.sum(0) / 2))
    return model, float(_enumerated(model))


def hard() -> dict[str, Callable[[], Case]]:
    """The models made to deceive."""
    found: dict[str, Callable[[], Case]] = {}
    for n in (2, 5, 10, 20):
        for gap in (6.0, 12.0):
            for drawn in (True, False):
                kind = "that can be drawn" if drawn else "given as a function"
                name = f"two modes {gap:g} apart in {n} dimensions, {kind}"
                found[name] = lambda n=n, gap=gap, drawn=drawn: far_modes(n, gap, drawn)
    for coupling in (0.8, 1.2, 2.0):
        for field in (0.0, 0.01, 0.1):
            found[f"4 x 4 ferromagnet, coupling {coupling}, field {field}"] = (
                lambda coupling=coupling, field=field: frozen(coupling, field)
            )
    for scale in (1.5, 3.0, 6.0):
        found[f"sticky RBM, weights of size {scale}"] = lambda scale=scale: sticky(scale)
    return found


def measured(model: ex.AbstractEnergy, truth: float, key: jax.Array) -> dict[str, Any]:
    """One bracket, and what is right about it."""
    clock = time.perf_counter()
    z = ex.log_partition(model, key=key, method="bracket", level=LEVEL)
    return {
        "truth": truth,
        "value": z.value,
        "lower": z.lower,
        "upper": z.upper,
        "std_error": z.std_error,
        "trusted": z.trusted,
        "reason": z.reason,
        "covered": bool(z.lower <= truth <= z.upper),
        "errors_off": abs(z.value - truth) / max(z.std_error, 1e-12),
        "seconds": time.perf_counter() - clock,
    }


def false(found: dict[str, Any]) -> bool:
    """Trusted, and off by more than five standard errors."""
    return bool(found["trusted"] and not found["errors_off"] <= 5)


def main() -> None:
    options = parser(__doc__, "coverage")
    options.add_argument("--models", type=int, help="random models in all (1,000; quick: 20)")
    options.add_argument("--resume", action="store_true", help="keep families already in results")
    arguments = options.parse_args()
    use_cores(2)
    each = (arguments.models or (20 if arguments.quick else 1000)) // len(FAMILIES)
    known: dict[str, Any] = {}
    if arguments.resume and arguments.output.exists():
        before = json.loads(arguments.output.read_text())
        known = {k: v for k, v in before["families"].items() if len(v) >= each}
        known |= {"": before.get("hard", {})}
    families: dict[str, list[dict[str, Any]]] = {}
    hard_found: dict[str, dict[str, Any]] = known.pop("", {})

    def write(bars: list[Bar]) -> None:
        summary = {
            "versions": versions("energax", "jax", "numpy"),
            "level": LEVEL,
            "models_of_each_family": each,
            "families": families,
            "hard": hard_found,
            "bars": judge(bars) if bars else [],
        }
        save(arguments, "coverage", summary)

    table = Table("family", "trusted", "covered", "off at most", "median width", "s each")
    for number, (name, make) in enumerate(FAMILIES.items()):
        if name in known:
            families[name] = known[name]
        else:
            generator, key = np.random.default_rng(number), ex.key(number)
            families[name] = [
                measured(*make(generator), jax.random.fold_in(key, i)) for i in range(each)
            ]
            write([])
        found = families[name]
        trusted = [f for f in found if f["trusted"]]
        table.add_row(
            name,
            f"{len(trusted)} of {len(found)}",
            f"{sum(f['covered'] for f in trusted)}",
            f"{max((f['errors_off'] for f in trusted), default=0):.1f} std. errors",
            f"{np.median([f['upper'] - f['lower'] for f in trusted] or [np.nan]):.3f}",
            f"{np.median([f['seconds'] for f in found]):.2f}",
        )
    CONSOLE.print(table)

    table = Table("made to deceive", "log Z off", "interval, less the truth", "verdict")
    for number, (name, make) in enumerate(hard().items()):
        if arguments.quick and number % 6:
            continue
        if name not in hard_found:
            hard_found[name] = measured(*make(), ex.key(1000 + number))
            write([])
        f = hard_found[name]
        right = f["covered"]
        verdict = "trusted" if f["trusted"] else "not trusted"
        table.add_row(
            name,
            f"{f['value'] - f['truth']:+.3f}",
            f"{f['lower'] - f['truth']:+.2f} to {f['upper'] - f['truth']:+.2f}",
            f"{verdict}, {'right' if right else 'WRONG' if f['trusted'] else 'wrong'}",
        )
    CONSOLE.print(table)

    every = [f for found in families.values() for f in found]
    trusted = [f for f in every if f["trusted"]]
    covered = sum(f["covered"] for f in trusted)
    tail = float(stats.binom.cdf(covered, len(trusted), LEVEL))
    deceived = sum(f["trusted"] and not f["covered"] for f in hard_found.values())
    write(
        [
            Bar("chance of so few covered, were it 95%", tail, 0.01, at_most=False),
            Bar("share that is trusted", len(trusted) / len(every), 0.8, at_most=False),
            Bar("trusted and off by over 5 standard errors", sum(map(false, every)), 0),
            Bar("made to deceive, trusted and wrong", deceived, 0),
        ]
    )
    CONSOLE.print(f"{covered} of {len(trusted)} trusted intervals hold the truth")


if __name__ == "__main__":
    main()
