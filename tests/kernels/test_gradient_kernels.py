"""Kernels that follow a gradient: spaces with ends, failures, caches, and what a step costs.

`test_continuous_invariance.py` pairs the exact ones with every registered energy. The statistical
tests here are 29; ideal kernels fail one of them, on fresh seeds, with a chance below 1e-4.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import jaxprs_in_params
from scipy import stats

import energax as ex
import registry
from energax.kernels import refresh_chains, retemper_chains, start_chains, step_chains
from oracles import refused

ALARM = 1e-4 / 29
EXACT = ("mala", "hmc", "nuts")
EVERY = (*EXACT, "langevin", "underdamped langevin")

exact = pytest.mark.parametrize("name", EXACT)
every = pytest.mark.parametrize("name", EVERY)


def _kernel(name):
    return registry.KERNELS[name](None)


def _steps(kernel, energy, x, n_steps: int = 1, seed: int = 0):
    """The chains after `n_steps` steps, and what each step told."""

    @eqx.filter_jit
    def run(kernel, energy, x, key):
        key_init, key_walk = jax.random.split(key)
        chains = start_chains(energy, kernel, x, key_init)

        def body(chains, key):
            return step_chains(energy, kernel, chains, key)

        return jax.lax.scan(body, chains, jax.random.split(key_walk, n_steps))

    return run(kernel, energy, x, ex.key(seed))


PARTS = ex.Joint(
    rate=ex.Box((), 0.0, jnp.inf),
    share=ex.Box((), -1.0, 1.0),
    shift=ex.Real(2),
    under=ex.Box((), -jnp.inf, 2.0),
)


def _of_parts(x):
    """log of Gamma(3, 1), of (1 + 0.8 s) / 2, of N(rate, 1) and N(0, 1), and of an exponential."""
    return (
        2 * jnp.log(x["rate"])
        - x["rate"]
        + jnp.log1p(0.8 * x["share"])
        - 0.5 * (x["shift"][0] - x["rate"]) ** 2
        - 0.5 * x["shift"][1] ** 2
        + x["under"]
    )


def _exact_parts(n: int, seed: int):
    generator = np.random.default_rng(seed)
    rate = generator.gamma(3.0, 1.0, n)
    # The distribution function of the share is (s + 0.4 s^2 + 0.6) / 2.
    share = (np.sqrt(1 + 1.6 * (2 * generator.random(n) - 0.6)) - 1) / 0.8
    shift = np.stack([generator.normal(rate), generator.normal(size=n)], 1)
    under = 2 - generator.exponential(size=n)
    drawn = {"rate": rate, "share": share, "shift": shift, "under": under}
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), drawn)


@exact
def test_parts_with_all_kinds_of_ends(name):
    energy = ex.NeuralEnergy(_of_parts, PARTS)
    chains, _ = _steps(_kernel(name), energy, _exact_parts(20_000, 0))
    fresh = _exact_parts(20_000, 1)
    for after, other in zip(jax.tree.leaves(chains.x), jax.tree.leaves(fresh), strict=True):
        for a, b in zip(after.reshape(20_000, -1).T, other.reshape(20_000, -1).T, strict=True):
            assert stats.ks_2samp(np.asarray(a), np.asarray(b)).pvalue > ALARM
    moved = [
        bool((a != b).mean() > 0.2)
        for a, b in zip(
            jax.tree.leaves(chains.x), jax.tree.leaves(_exact_parts(20_000, 0)), strict=True
        )
    ]
    assert all(moved)


@every
def test_observed_entries_stay_and_the_rest_is_sampled(name):
    """Given the second entry, the first has density proportional to exp(2.7 x) in the box."""
    box = ex.NeuralEnergy(lambda x: 3 * x[0] * x[1] - x[2], ex.Box(3, -1.0, 1.0))
    mask = np.array([False, True, False])
    energy = ex.condition(box, np.array([0.0, 0.9, 0.0]), mask)
    generator = np.random.default_rng(0)

    def drawn(n, slope):
        u = generator.random(n)
        return np.log(np.exp(-slope) + u * (np.exp(slope) - np.exp(-slope))) / slope

    n = 20_000
    x = jnp.asarray(np.stack([drawn(n, 2.7), np.full(n, 0.9), drawn(n, -1.0)], 1), jnp.float32)
    chains, info = _steps(_kernel(name), energy, x, n_steps=3)
    assert bool((chains.x[:, 1] == jnp.float32(0.9)).all())
    assert bool((jnp.abs(chains.x) <= 1).all())
    assert bool(jnp.isfinite(info.energy).all())
    assert float((chains.x[:, 0] != x[:, 0]).mean()) > 0.3
    if name in EXACT:
        for column, slope in ((0, 2.7), (2, -1.0)):
            after = np.asarray(chains.x[:, column])
            assert stats.ks_2samp(after, drawn(n, slope)).pvalue > ALARM


@every
def test_what_a_step_says(name):
    """The energy is that of the new x; x, and all that is kept of it, belong together."""
    energy = registry.CONTINUOUS["box"]()
    kernel = _kernel(name)
    x = jax.vmap(energy.space.draw)(jax.random.split(ex.key(0), 50))
    chains, info = _steps(kernel, energy, x, n_steps=2)
    energies = jax.vmap(energy.energy)(chains.x)
    np.testing.assert_allclose(info.energy[-1], energies, rtol=1e-5, atol=2e-6)
    at = jax.vmap(lambda s: kernel.energy_at(energy, s))(chains)
    np.testing.assert_allclose(at, energies, rtol=1e-5, atol=2e-6)
    again = refresh_chains(energy, kernel, chains)
    for a, b in zip(jax.tree.leaves(chains), jax.tree.leaves(again), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    assert bool(((info.acceptance >= 0) & (info.acceptance <= 1)).all())


def _gradients(jaxpr) -> int:
    """How often a program takes a cosine, the derivative of the sine, loops counted once."""
    count = 0
    for equation in jaxpr.eqns:
        count += equation.primitive.name == "cos"
        for inner in jaxprs_in_params(equation.params):
            count += _gradients(inner)
    return count


@every
def test_a_step_takes_one_gradient_or_one_in_its_loop(name):
    energy = ex.NeuralEnergy(lambda x: -jnp.sum(jnp.sin(x) + x**2), ex.Real(3))
    kernel = _kernel(name)
    state = kernel.init(energy, jnp.zeros(3), ex.key(0))
    program = jax.make_jaxpr(lambda s, k: kernel.step(energy, s, k))(state, ex.key(1))
    assert _gradients(program.jaxpr) == 1
    program = jax.make_jaxpr(lambda s: kernel.refresh(energy, s))(state)
    assert _gradients(program.jaxpr) == (0 if name == "langevin" else 1)  # which keeps x alone


@pytest.mark.parametrize("name", ["mala", "hmc"])
def test_a_stale_state_is_a_wrong_sampler_and_a_refreshed_one_is_not(name):
    before, after = ex.Gaussian(jnp.zeros(1), 0.5), ex.Gaussian(jnp.ones(1), 1.0)
    kernel = _kernel(name)
    n = 20_000
    x = jnp.asarray(np.random.default_rng(0).normal(1.0, 1.0, (n, 1)), jnp.float32)

    @eqx.filter_jit
    def step(refreshed, key):
        chains = start_chains(before, kernel, x, key)
        chains = refresh_chains(after, kernel, chains) if refreshed else chains
        return step_chains(after, kernel, chains, key)[0].x

    def p_value(refreshed):
        seen = np.asarray(step(refreshed, ex.key(1)))[:, 0]
        return stats.ks_2samp(seen, np.asarray(x)[::-1, 0]).pvalue

    assert p_value(True) > ALARM
    assert p_value(False) < 1e-9


@every
@pytest.mark.parametrize("energy_name", ["tempered", "path"])
def test_retempering_is_refreshing(name, energy_name, x64):
    well = ex.NeuralEnergy(lambda x: -jnp.sum((x**2 - 1) ** 2), ex.Real(2))
    warm, cold = {
        "tempered": (well**0.5, well**2.0),
        "path": (ex.path(ex.Gaussian(jnp.zeros(2)), well, b) for b in (0.2, 0.9)),
    }[energy_name]
    kernel = _kernel(name)
    chains = start_chains(warm, kernel, jnp.ones((2, 2)) * 0.3, ex.key(0))
    quick, slow, fresh = (
        retemper_chains(cold, kernel, chains),
        refresh_chains(cold, kernel, chains),
        start_chains(cold, kernel, chains.x, ex.key(0)),
    )
    for a, b, c in zip(*map(jax.tree.leaves, (quick, slow, fresh)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-14)
        np.testing.assert_allclose(b, c, rtol=1e-14)


def _nan(x):
    return jnp.where(x > 1, jnp.nan, -(x**2))


def _unbounded_below(x):
    return jnp.where(x > 1, jnp.inf, -(x**2))


def _nan_gradient(x):
    # The value is fine everywhere; the gradient of the branch not taken is NaN beyond 1.
    return jnp.where(x > 1, x, x - 0.1 * (1 - x) * jnp.sqrt(1 - x))


@every
@pytest.mark.parametrize("f", [_nan, _unbounded_below, _nan_gradient])
def test_a_failing_energy_stays_visible(name, f):
    energy = ex.NeuralEnergy(f, ex.Real())
    kernel = _kernel(name)
    chains, _ = _steps(kernel, energy, jnp.full((40,), 0.8), n_steps=60)
    energies = jax.vmap(lambda s: kernel.energy_at(energy, s))(chains)
    failed = ~np.isfinite(energies)
    # A chain that nothing refuses may come back from where only the value is NaN.
    assert failed.mean() > (0.8 if name in EXACT or f is _nan_gradient else 0.1)
    again = refresh_chains(energy, kernel, chains)
    energies = jax.vmap(lambda s: kernel.energy_at(energy, s))(again)
    assert (~np.isfinite(energies))[failed].all()
    draws = ex.sample(energy, 160, key=ex.key(0), kernel=kernel, chains=4, warmup=0)
    assert not draws.converged
    assert name not in EXACT or "not finite" in draws.summary


@exact
def test_infinite_energies_are_refused_and_left(name):
    # p = 0 below 0, where the gradient is NaN too.
    energy = ex.NeuralEnergy(
        lambda x: jnp.where(x < 0, -jnp.inf, -x - 0.1 * jnp.sqrt(x)), ex.Real()
    )
    x = jnp.concatenate([jnp.full(300, 0.5), jnp.full(300, -0.3)])
    chains, info = _steps(_kernel(name), energy, x, n_steps=40)
    assert bool((chains.x[:300] > 0).all())
    assert bool(jnp.isfinite(chains.energy[:300]).all())
    assert bool((chains.x[300:] > 0).mean() > 0.8)
    assert not bool(jnp.isnan(info.energy).any())
    assert not bool(jnp.isnan(info.acceptance).any())


@exact
def test_a_trajectory_that_flies_off_is_refused(name):
    """Far out the difference of two overflows is NaN, which says nothing about the model."""
    energy = ex.NeuralEnergy(lambda x: x**8 * 1e3 - x**10 * 1e3, ex.Real())
    kernel = eqx.tree_at(lambda k: k.step_size, _kernel(name), jnp.asarray(30.0))
    x = jnp.linspace(1.1, 3.0, 50)
    chains, info = _steps(kernel, energy, x, n_steps=20)
    assert bool(jnp.isfinite(chains.energy).all())
    assert not bool(jnp.isnan(info.acceptance).any())


@every
def test_keys_fix_steps_and_other_keys_are_independent(name):
    energy, kernel, n = ex.Gaussian(jnp.zeros(2)), _kernel(name), 2000
    x = jnp.zeros((n, 2))

    @jax.jit
    def ends(key):
        chains = start_chains(energy, kernel, x, key)

        def body(chains, key):
            return step_chains(energy, kernel, chains, key)[0], None

        return jax.lax.scan(body, chains, jax.random.split(key, 5))[0].x[:, 0]

    for make in (ex.key, jax.random.key):
        first, again, other = (np.asarray(ends(make(seed))) for seed in (0, 0, 1))
        np.testing.assert_array_equal(first, again)
        for a, b in ((first, other), (first[1:], first[:-1])):
            assert stats.spearmanr(a, b).pvalue > ALARM


@every
def test_discrete_coordinates_are_refused(name, as_users_call):
    kernel = _kernel(name)
    spins = registry._table(ex.Spin(3))
    mixed = ex.NeuralEnergy(lambda x: -(x["a"] ** 2), ex.Joint(a=ex.Real(), b=ex.Spin(2)))
    held = registry.DISCRETE["conditioned table"]()
    for energy in (spins, mixed, held):
        with refused(type(kernel).__name__, "continuous space", "RandomWalkMetropolis"):
            ex.sample(energy, 10, key=ex.key(0), kernel=kernel, start=None)


def test_settings_are_checked(as_users_call):
    for make in (ex.MALA, ex.HMC, ex.NUTS, ex.UnadjustedLangevin, ex.UnderdampedLangevin):
        for step_size in (0.0, -1.0, np.inf, np.nan, [0.1, 0.2], "long"):
            with refused("step_size"):
                make(step_size)
    for bad in (0, -1, 2.5, True, None):
        with refused("n_leapfrog"):
            ex.HMC(0.1, bad)
        with refused("max_depth"):
            ex.NUTS(0.1, bad)
    for make in (ex.MALA, ex.HMC, ex.NUTS):
        for bad in (0.0, 1.0, -0.2, np.nan):
            with refused("target_acceptance"):
                make(target_acceptance=bad)
        with refused("inverse_mass"):
            make(inverse_mass=[1.0, -1.0])
        with refused("inverse_mass", "3", "2"):
            energy = ex.Gaussian(jnp.zeros(3))
            ex.sample(
                ex.freeze(energy) ** 1.5,
                10,
                key=ex.key(0),
                kernel=make(inverse_mass=[1.0, 2.0]),
                start=np.zeros((1, 3)),
            )
    for bad in (-0.1, 1.0, np.nan):
        with refused("jitter"):
            ex.HMC(jitter=bad)
    for bad in (0.0, -1.0, np.nan):
        with refused("friction"):
            ex.UnderdampedLangevin(friction=bad)
        with refused("noise_scale"):
            ex.UnadjustedLangevin(noise_scale=bad)
