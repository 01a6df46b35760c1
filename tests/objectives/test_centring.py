"""The centred gradient of an RBM: whose energy it belongs to, and what it leaves as it was."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import energax as ex
import oracles
import registry

ROWS = np.random.default_rng(0).integers(0, 2, (7, 4))
MEANS = (np.array([0.2, 0.7, 0.5, 0.9]), np.array([0.3, 0.6, 0.1]))


def _flat(rbm) -> np.ndarray:
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(rbm)])


def _as_rbm(vector) -> ex.RBM:
    return ex.RBM(
        jnp.asarray(vector[:12].reshape(4, 3)), jnp.asarray(vector[12:16]), jnp.asarray(vector[16:])
    )


def _ordinary(w, b, c, means):
    """The weights and biases of a machine from those of the same machine about `means`."""
    m, l = means
    return w, b - w @ l, c - m @ w


def test_centring_moves_the_energy_by_a_constant_only():
    generator = np.random.default_rng(1)
    w, b, c = generator.normal(size=(4, 3)), generator.normal(size=4), generator.normal(size=3)
    m, l = MEANS
    w0, b0, c0 = _ordinary(w, b, c, MEANS)
    v, h = (np.array(oracles.states(ex.Binary(n)), np.float64) for n in (4, 3))
    about = -((v - m) @ w @ (h - l).T) - ((v - m) @ b)[:, None] - ((h - l) @ c)[None]
    plain = -(v @ w0 @ h.T) - (v @ b0)[:, None] - (h @ c0)[None]
    assert np.ptp(about - plain) < 1e-12


def test_a_step_along_it_is_a_step_of_the_centred_machine(x64):
    """A gradient step in the parameters about the means, carried back, is a step of the same
    length along the centred gradient. Both maps are linear, so any gradient will do."""
    generator = np.random.default_rng(2)
    gradient, start = generator.normal(size=19), generator.normal(size=19)

    def back(phi):
        w, b, c = phi[:12].reshape(4, 3), phi[12:16], phi[16:]
        m, l = (jnp.asarray(a) for a in MEANS)
        w, b, c = _ordinary(w, b, c, (m, l))
        return jnp.concatenate([w.reshape(-1), b, c])

    phi = jnp.asarray(start)
    slope = jax.grad(lambda phi: back(phi) @ jnp.asarray(gradient))(phi)
    moved = back(phi - 0.1 * slope)
    found = _as_rbm(gradient).centred(_as_rbm(gradient), tuple(jnp.asarray(a) for a in MEANS))
    np.testing.assert_allclose(back(phi) - 0.1 * _flat(found), moved, rtol=0, atol=1e-12)


def test_it_goes_downhill_and_rests_where_the_gradient_does(x64):
    # As a matrix it is symmetric and positive definite: no gradient but zero becomes zero, and
    # none is turned uphill.
    means = tuple(jnp.asarray(a) for a in MEANS)
    columns = [_flat(_as_rbm(e).centred(_as_rbm(e), means)) for e in np.eye(19)]
    matrix = np.stack(columns, 1)
    np.testing.assert_allclose(matrix, matrix.T, rtol=0, atol=1e-14)
    assert np.linalg.eigvalsh(matrix).min() > 0.05


def test_about_zero_it_is_the_ordinary_gradient(x64):
    rbm = registry.DISCRETE["rbm"]()
    found = rbm.centred(rbm, (jnp.zeros(4), jnp.zeros(3)))
    np.testing.assert_array_equal(_flat(found), _flat(rbm))


@pytest.mark.parametrize("persistent", [False, True])
def test_training_centres_about_running_means(persistent, x64):
    rbm = registry.DISCRETE["rbm"]()
    rows, batch = rbm.space.convert(ROWS), rbm.space.convert(ROWS[:2])
    kind = ex.PersistentContrastiveDivergence if persistent else ex.ContrastiveDivergence
    plain, centred = kind(), kind(centred=True)

    def means(rows):
        rows, weights, bias = (np.asarray(a) for a in (rows, rbm.weights, rbm.hidden_bias))
        return rows.mean(0), (1 / (1 + np.exp(-(bias + rows @ weights)))).mean(0)

    state = centred.init(rbm, rows, key=ex.key(0))
    start = state.offsets if persistent else state
    for found, expected in zip(start, means(rows), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-12)

    step = centred.gradient(rbm, batch, state, key=ex.key(1))
    after = step.state.offsets if persistent else step.state
    moved = [0.99 * old + 0.01 * new for old, new in zip(means(rows), means(batch), strict=True)]
    for found, expected in zip(after, moved, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-12)

    same = plain.init(rbm, rows, key=ex.key(0))
    ordinary = plain.gradient(rbm, batch, same, key=ex.key(1)).gradient
    expected = rbm.centred(ordinary, tuple(jnp.asarray(a) for a in moved))
    np.testing.assert_allclose(_flat(step.gradient), _flat(expected), rtol=1e-10, atol=1e-12)
    assert np.abs(_flat(step.gradient) - _flat(ordinary)).max() > 1e-3


def test_the_first_means_are_over_a_thousand_rows(x64):
    rbm = registry.DISCRETE["rbm"]()
    rows = jnp.concatenate([jnp.zeros((1000, 4)), jnp.ones((500, 4))])
    visible, _ = ex.ContrastiveDivergence(centred=True).init(rbm, rows, key=ex.key(0))
    np.testing.assert_array_equal(visible, 0.0)


def test_energies_without_centring_are_refused():
    for name in ("rbm.joint", "table of bits", "frozen rbm"):
        energy = registry.DISCRETE[name]()
        rows = energy.space.convert(
            jax.tree.map(lambda leaf: np.asarray(leaf)[None], energy.space.draw(ex.key(0)))
        )
        for kind in (ex.ContrastiveDivergence, ex.PersistentContrastiveDivergence):
            with pytest.raises(ValueError, match="centred=True needs an energy with centred"):
                kind(centred=True).prepare(energy, rows)
