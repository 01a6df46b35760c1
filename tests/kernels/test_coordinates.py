"""Coordinates without ends, and reflection at walls."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import energax as ex
from energax.kernels._coordinates import bounded, free_entries, reflected, unbounded
from energax.spaces import Clamped

LOW = np.array([-1.0, 2.0, -np.inf, -np.inf])
HIGH = np.array([3.0, np.inf, 0.5, np.inf])
ENDS = ex.Box(4, LOW, HIGH)


def test_there_and_back(x64):
    box = ex.Box(4, LOW, HIGH)
    x = jax.vmap(box.draw)(jax.random.split(ex.key(0), 200))
    u = jax.vmap(lambda x: unbounded(box, x))(x)
    back, _ = jax.vmap(lambda u: bounded(box, u))(u)
    np.testing.assert_allclose(back, x, rtol=1e-12, atol=1e-12)
    far = jnp.linspace(-30.0, 30.0, 61)
    there, _ = jax.vmap(lambda u: bounded(box, jnp.full(4, u)))(far)
    assert bool(jax.vmap(box.contains)(there).all())


def test_the_jacobian_is_that_of_the_transform(x64):
    box = ex.Box(4, LOW, HIGH)
    for u in (np.array([0.3, -1.2, 2.0, 0.7]), np.zeros(4), np.array([-9.0, 5.0, -6.0, 3.0])):
        jacobian = jax.jacfwd(lambda u: bounded(box, u)[0])(jnp.asarray(u))
        _, log_jacobian = bounded(box, jnp.asarray(u))
        np.testing.assert_allclose(
            log_jacobian, np.log(np.abs(np.diag(jacobian))).sum(), rtol=1e-12
        )
        slope = jax.grad(lambda u: bounded(box, u)[1])(jnp.asarray(u))
        assert np.isfinite(slope).all()


def test_a_state_on_a_wall_has_coordinates():
    box = ex.Box(4, LOW, HIGH)
    for x in ([-1.0, 2.0, 0.5, 0.0], [3.0, 2.5, 0.5, 0.0]):
        u = unbounded(box, jnp.array(x))
        assert bool(jnp.isfinite(u).all())
        np.testing.assert_allclose(bounded(box, u)[0], x, atol=1e-5)


def test_far_coordinates_stay_inside_and_finite():
    for u in (-1e6, -100.0, 100.0, 1e6):
        x, log_jacobian = bounded(ENDS, jnp.full(4, u))
        assert bool(ENDS.contains(x))
        assert bool(jnp.isfinite(log_jacobian))
        slope = jax.grad(lambda u: bounded(ENDS, u)[1])(jnp.full(4, u))
        assert bool(jnp.isfinite(slope).all())


def test_parts_and_held_entries():
    space = ex.Joint(a=ex.Real((2, 2)), b=Clamped(ENDS, jnp.full(4, 0.25), jnp.arange(4) == 2))
    np.testing.assert_array_equal(free_entries(space), [1, 1, 1, 1, 1, 1, 0, 1])
    x = space.draw(ex.key(0))
    u = unbounded(space, x)
    assert u.shape == (8,)
    assert u[6] == 0
    back, _ = bounded(space, u)
    for name in x:
        np.testing.assert_allclose(back[name], x[name], rtol=1e-5, atol=1e-6)
    assert back["b"][2] == 0.25
    slope = jax.grad(lambda u: bounded(space, u)[1] + bounded(space, u)[0]["b"].sum())(u)
    assert slope[6] == 0


@pytest.mark.parametrize(
    ("start", "expected", "sign"),
    [
        (0.5, 0.5, 1),
        (3.5, 2.5, -1),
        (-1.5, -0.5, -1),
        (7.5, -0.5, 1),  # through both walls: at 3 and at -1
        (12.0, 2.0, -1),
        (-9.5, -1.0 + 0.5, -1),
    ],
)
def test_a_way_between_two_walls(start, expected, sign):
    # Unfolded: every 4 units another wall.
    x, turned = reflected(ex.Box((), -1.0, 3.0), jnp.asarray(start))
    assert float(x) == pytest.approx(expected)
    assert float(turned) == sign


def test_a_way_to_one_wall_or_none():
    x, turned = reflected(ENDS, jnp.array([0.0, 1.5, 2.5, 99.0]))
    np.testing.assert_allclose(x, [0.0, 2.5, -1.5, 99.0])
    np.testing.assert_array_equal(turned, [1, -1, -1, 1])
    kept, _ = reflected(ENDS, jnp.full(4, jnp.nan))
    assert bool(jnp.isnan(kept).all())
    held = Clamped(ENDS, jnp.full(4, 0.25), jnp.ones(4, bool))
    np.testing.assert_array_equal(reflected(held, jnp.full(4, 9.0))[0], 0.25)
