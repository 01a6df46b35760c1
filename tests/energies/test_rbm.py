"""The restricted Boltzmann machine against sums over its layers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import expit, logsumexp

import energax as ex
import registry
from oracles import assert_drawn_from, index_of, refused, stacked


def _numbers(rbm):
    return (np.asarray(a) for a in (rbm.weights, rbm.visible_bias, rbm.hidden_bias))


def _layers(rbm):
    """E(v, h) of every pair, with the states of both layers."""
    weights, visible_bias, hidden_bias = _numbers(rbm)
    v, h = np.asarray(stacked(rbm.space)), np.asarray(stacked(rbm.hidden_space))
    energies = -(v @ visible_bias)[:, None] - (h @ hidden_bias)[None] - v @ weights @ h.T
    return v, h, energies


def test_energy_is_the_free_energy(x64):
    rbm = registry.DISCRETE["rbm"]()
    v, _, energies = _layers(rbm)
    free = jax.jit(jax.vmap(lambda x: rbm.energy(x)))(v)
    np.testing.assert_allclose(free, -logsumexp(-energies, axis=1), atol=1e-13)


def test_joint_energy(x64):
    rbm = registry.DISCRETE["rbm"]()
    v, h, energies = _layers(rbm)
    each = jax.jit(
        jax.vmap(lambda v: jax.vmap(lambda h: rbm.joint.energy({"hidden": h, "visible": v}))(h))
    )(v)
    np.testing.assert_allclose(each, energies, atol=1e-13)
    assert rbm.joint.space.cardinality == 2**7
    assert list(rbm.joint.space.parts) == ["hidden", "visible"]


def test_both_conditionals(x64):
    rbm = registry.DISCRETE["rbm"]()
    v, h, energies = _layers(rbm)
    p = np.exp(-energies)
    hidden = p @ h / p.sum(1, keepdims=True)
    for model in (rbm, rbm.joint):

        def mean(x, model=model):
            state = x if model is rbm else {"visible": x, "hidden": jnp.zeros(3)}
            return model.hidden_mean(model.terms(state))

        np.testing.assert_allclose(jax.jit(jax.vmap(mean))(v), hidden, atol=1e-13)
    visible = p.T @ v / p.T.sum(1, keepdims=True)
    np.testing.assert_allclose(
        jax.nn.sigmoid(jax.vmap(rbm.visible_input)(jnp.asarray(h))), visible, atol=1e-13
    )


def test_draws_of_each_layer_given_the_other(x64):
    rbm = registry.DISCRETE["rbm"]()
    v, h, energies = _layers(rbm)
    keys = jax.random.split(ex.key(0), 4_000)
    for model in (rbm, rbm.joint):
        one = v[11] if model is rbm else {"visible": v[11], "hidden": h[0]}
        terms = model.terms(jax.tree.map(jnp.asarray, one))
        drawn = jax.jit(lambda k, m=model, t=terms: jax.vmap(lambda k: m.draw_hidden(t, k))(k))(
            keys
        )
        counts = np.bincount(index_of(rbm.hidden_space, drawn), minlength=len(h))
        assert_drawn_from(counts, np.exp(-energies[11] + energies[11].min()))
        drawn = jax.jit(jax.vmap(lambda k, m=model: m.draw_visible(jnp.asarray(h[5]), k)))(keys)
        counts = np.bincount(index_of(rbm.space, drawn), minlength=len(v))
        assert_drawn_from(counts, np.exp(-energies[:, 5] + energies[:, 5].min()))


def test_a_conditioned_machine_draws_what_is_left(x64):
    rbm = registry.DISCRETE["rbm"]()
    v, h, energies = _layers(rbm)
    held = registry.DISCRETE["conditioned rbm"]()  # the first entry is 1, the last 0
    agree = (v[:, 0] == 1) & (v[:, 3] == 0)
    keys = jax.random.split(ex.key(1), 4_000)
    drawn = jax.jit(jax.vmap(lambda k: held.draw_visible(jnp.asarray(h[5]), k)))(keys)
    counts = np.bincount(index_of(rbm.space, drawn), minlength=len(v))
    assert_drawn_from(counts, np.where(agree, np.exp(-energies[:, 5]), 0.0))
    # Hidden units see the held values, whatever a state says there.
    wrong = jnp.array([0.0, 1.0, 1.0, 1.0])
    right = jnp.array([1.0, 1.0, 1.0, 0.0])
    np.testing.assert_array_equal(
        held.hidden_mean(held.terms(wrong)), rbm.hidden_mean(rbm.terms(right))
    )
    assert held.energy(wrong) == rbm.energy(right)
    np.testing.assert_allclose(
        jax.vmap(held.hidden_log_density)(jnp.asarray(h)),
        logsumexp(-energies[agree], axis=0),
        atol=1e-13,
    )
    np.testing.assert_array_equal(held.pack(right, jnp.zeros(3)), right)


def test_the_marginal_of_the_hidden_layer(x64):
    rbm = registry.DISCRETE["rbm"]()
    _, h, energies = _layers(rbm)
    for model in (rbm, rbm.joint):
        by_hidden = jax.jit(jax.vmap(lambda x, m=model: m.hidden_log_density(x)))(h)
        np.testing.assert_allclose(by_hidden, logsumexp(-energies, axis=0), atol=1e-13)


def test_both_layers_make_a_state():
    rbm = registry.DISCRETE["rbm"]()
    v, h = jnp.ones(4), jnp.zeros(3)
    assert rbm.pack(v, h) is v
    packed = rbm.joint.pack(v, h)
    rbm.joint.space.check(packed)
    assert packed["visible"] is v


def test_large_inputs_neither_overflow_nor_lose():
    rbm = ex.RBM([[300.0, -300.0]], [1.0], [0.0, 0.0])
    assert rbm.energy(jnp.ones(1)) == -301.0
    assert jnp.isfinite(jax.grad(lambda m: m.energy(jnp.ones(1)))(rbm).weights).all()


def test_gradients_are_expectations(x64):
    rbm = registry.DISCRETE["rbm"]()
    v = jnp.array([1.0, 0.0, 1.0, 1.0])
    gradient = jax.grad(lambda m: m.energy(v))(rbm)
    weights, _, hidden_bias = _numbers(rbm)
    mean = expit(hidden_bias + v @ weights)
    np.testing.assert_allclose(gradient.weights, -np.outer(v, mean), atol=1e-14)
    np.testing.assert_allclose(gradient.visible_bias, -v, atol=1e-14)
    np.testing.assert_allclose(gradient.hidden_bias, -mean, atol=1e-14)


def test_the_centred_gradient_is_that_of_the_centred_parameters(x64):
    """E(v, h) = -(v - m) W (h - l) - b'(v - m) - c'(h - l) has the same W; stepping W, b', c' along
    their own gradient moves b = b' - W l and c = c' - m W as `centred` says."""
    rbm = registry.DISCRETE["rbm"]()
    v = jnp.array([[1.0, 0.0, 1.0, 1.0], [0.0, 0.0, 1.0, 0.0]])
    visible, hidden = rbm.offsets(v)
    weights, _, hidden_bias = _numbers(rbm)
    np.testing.assert_allclose(visible, np.asarray(v).mean(0))
    np.testing.assert_allclose(hidden, expit(np.asarray(v) @ weights + hidden_bias).mean(0))

    def plain(parameters):
        w, b, c = parameters
        return ex.RBM(w, b - w @ hidden, c - visible @ w)

    w, b, c = rbm.weights, rbm.visible_bias, rbm.hidden_bias
    start = (w, b + w @ hidden, c + visible @ w)
    loss = lambda m: jnp.sum(jnp.sin(jax.vmap(m.energy)(v)))  # noqa: E731
    step = jax.grad(lambda p: loss(plain(p)))(start)
    rate = 1e-6
    moved = plain(tuple(p - rate * s for p, s in zip(start, step, strict=True)))
    expected = jax.tree.map(lambda new, old: (old - new) / rate, moved, rbm)
    got = rbm.centred(jax.grad(loss)(rbm), (visible, hidden))
    for a, e in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, e, atol=1e-6)


def test_init():
    rbm = ex.RBM.init(ex.key(0), n_visible=400, n_hidden=50)
    assert rbm.weights.shape == (400, 50)
    assert (rbm.n_visible, rbm.n_hidden) == (400, 50)
    assert float(rbm.weights.std()) == pytest.approx(0.01, rel=0.05)
    assert not rbm.visible_bias.any()
    assert not rbm.hidden_bias.any()
    base = ex.Bernoulli(np.linspace(-1, 1, 6).reshape(2, 3))
    started = ex.RBM.init(ex.key(0), n_visible=6, n_hidden=2, scale=0.0, base=base)
    np.testing.assert_array_equal(started.visible_bias, base.logits.reshape(-1))
    v = jnp.ones(6)
    np.testing.assert_allclose(
        started.log_ratio(v, 0 * v), base.log_ratio(v.reshape(2, 3), 0 * v.reshape(2, 3)), rtol=1e-6
    )


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: ex.RBM(np.ones(3), np.ones(3), np.ones(3)), ["weights", "(3,)"]),
        (lambda: ex.RBM(np.ones((3, 2)), np.ones(2), np.ones(2)), ["visible_bias", "(3,)", "(2,)"]),
        (lambda: ex.RBM(np.ones((3, 2)), np.ones(3), np.ones(3)), ["hidden_bias", "(2,)", "(3,)"]),
        (lambda: ex.RBM(np.full((3, 2), np.nan), np.ones(3), np.ones(2)), ["weights", "finite"]),
        (lambda: ex.RBM(np.ones((3, 2)), [0, np.inf, 0], np.ones(2)), ["visible_bias", "finite"]),
        (lambda: ex.RBM("a", np.ones(3), np.ones(2)), ["weights", "numbers"]),
        (lambda: ex.RBM.init(ex.key(0), n_visible=0, n_hidden=2), ["n_visible", "at least 1", "0"]),
        (lambda: ex.RBM.init(ex.key(0), n_visible=2, n_hidden=2.0), ["n_hidden", "2.0"]),
        (lambda: ex.RBM.init(ex.key(0), n_visible=True, n_hidden=2), ["n_visible", "True"]),
        (
            lambda: ex.RBM.init(ex.key(0), n_visible=3, n_hidden=2, base=ex.Bernoulli([0.0, 1.0])),
            ["visible_bias", "(3,)", "(2,)"],
        ),
    ],
)
def test_bad_machines_are_refused(make, words):
    with refused(*words):
        make()


# The path to a machine


@pytest.fixture
def annealed(x64):
    return registry.DISCRETE["annealed rbm"]()


def test_the_path_ends_at_the_base_and_at_the_machine(annealed):
    v = stacked(annealed.space)
    energies = jax.jit(lambda m: jax.vmap(m.energy)(v))
    base, rbm = annealed.base, annealed.rbm
    np.testing.assert_allclose(energies(annealed.at(0.0)), jax.vmap(base.energy)(v), atol=1e-13)
    np.testing.assert_allclose(energies(annealed.at(1.0)), jax.vmap(rbm.energy)(v), atol=1e-13)


def test_the_path_between_is_a_machine_of_scaled_numbers(annealed):
    weights, visible_bias, hidden_bias = _numbers(annealed.rbm)
    logits, beta = np.asarray(annealed.base.logits), float(annealed.beta)
    assert beta == 0.6
    scaled = ex.RBM(beta * weights, beta * visible_bias + (1 - beta) * logits, beta * hidden_bias)
    v = stacked(annealed.space)
    # h is uniform at beta = 0, and the base is normalised: constants that the path keeps.
    constant = (1 - beta) * (np.logaddexp(0, logits).sum() + 3 * np.log(2))
    np.testing.assert_allclose(
        jax.vmap(annealed.energy)(v), jax.vmap(scaled.energy)(v) + constant, atol=1e-13
    )
    terms = annealed.terms(v[5])
    np.testing.assert_allclose(
        annealed.hidden_mean(terms), scaled.hidden_mean(scaled.terms(v[5])), atol=1e-14
    )
    h = stacked(annealed.hidden_space)
    np.testing.assert_allclose(
        jax.vmap(annealed.hidden_log_density)(h),
        jax.vmap(scaled.hidden_log_density)(h) - constant,
        atol=1e-13,
    )
    keys = jax.random.split(ex.key(2), 4_000)
    p_hidden = np.exp(
        np.asarray(-jax.vmap(lambda x: scaled.joint.energy({"visible": v[5], "hidden": x}))(h))
    )
    drawn = jax.jit(jax.vmap(lambda k: annealed.draw_hidden(terms, k)))(keys)
    assert_drawn_from(np.bincount(index_of(scaled.hidden_space, drawn), minlength=8), p_hidden)
    p_visible = np.exp(
        np.asarray(-jax.vmap(lambda x: scaled.joint.energy({"visible": x, "hidden": h[3]}))(v))
    )
    drawn = jax.jit(jax.vmap(lambda k: annealed.draw_visible(h[3], k)))(keys)
    assert_drawn_from(np.bincount(index_of(scaled.space, drawn), minlength=16), p_visible)


PAIRS = [(0.0, 1.0), (1.0, 0.0), (0.6, 0.6 + 1e-6), (0.6, 0.6 - 1e-6), (0.3, 0.9), (0.2, 0.2)]


@pytest.mark.parametrize("scale", [1.0, 50.0], ids=["small inputs", "inputs of 200"])
@pytest.mark.parametrize(("start", "end"), PAIRS)
def test_an_increment_is_a_difference_of_energies(start, end, scale, annealed):
    big = ex.RBM(*(scale * leaf for leaf in _numbers(annealed.rbm)))
    path = ex.path(annealed.base, big, start)
    v = stacked(path.space)
    got = jax.jit(jax.vmap(lambda x: path.log_increment(path.terms(x), jnp.asarray(end))))(v)
    expected = jax.vmap(path.energy)(v) - jax.vmap(path.at(end).energy)(v)
    np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-12)
    assert np.isfinite(got).all()


@pytest.mark.parametrize("end", [0.3 + 1e-5, 0.3 - 1e-5, 0.3 + 1e-7, 0.95, 0.0, 1.0])
def test_increments_are_as_good_in_float32(end):
    """To a few roundings of the increment itself, not of the energies it is the difference of."""
    rng = np.random.default_rng(0)
    start = np.float32(0.3)
    end = np.float32(end)
    inputs = np.float32(rng.normal(size=(50, 40)) * np.array([1e-3, 1, 20, 200] * 10))
    visible, base = np.float32(rng.normal(size=(2, 50)) * 30)

    def increments(dtype):
        rbm = ex.RBM(jnp.zeros((2, 40), dtype), jnp.zeros(2, dtype), jnp.zeros(40, dtype))
        path = ex.path(ex.Bernoulli(jnp.zeros(2, dtype)), rbm).at(start)
        terms = tuple(jnp.asarray(a, dtype) for a in (base, visible, inputs))
        return jax.jit(jax.vmap(lambda *t: path.log_increment(t, jnp.asarray(end, dtype))))(*terms)

    single = np.asarray(increments(jnp.float32), np.float64)
    with jax.enable_x64(True):
        double = np.asarray(increments(jnp.float64))
    # What the parts of the sum weigh: |step| times the inputs and the terms of v.
    weight = abs(float(end) - float(start)) * (
        np.abs(inputs).sum(1) + abs(visible) + abs(base) + 40
    )
    assert np.max(np.abs(single - double) / weight) < 4e-7
    difference = np.abs(single - double)
    assert np.max(difference / np.abs(double)) < 1e-4


def test_a_path_needs_a_base_over_its_own_space():
    rbm = registry.DISCRETE["rbm"]()
    with refused("base", "known Z", "RBM"):
        ex.path(rbm, rbm)
    with refused("one space", "(4,)", "(3,)"):
        ex.path(ex.Bernoulli(np.zeros(3)), rbm)
    with refused("one space"):
        ex.path(ex.Uniform(ex.Spin(4)), rbm)
