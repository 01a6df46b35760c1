"""`Draws`: what speaks against a set of draws, on arrays made for the purpose."""

import importlib.util
import sys
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import oracles
from energax.diagnostics import Convergence
from energax.kernels import LadderReport
from energax.partition import Evaluation
from energax.sampling import Averages, Binned, Cooled, Draws, Unbiased
from energax.training import Fitted

GENERATOR = np.random.default_rng(0)


def _draws(x, energy=None, acceptance: Any = 0.5, **settings) -> Draws:
    leaves = jax.tree.leaves(x)
    if energy is None:
        energy = GENERATOR.normal(size=leaves[0].shape[:2])
    acceptance = np.broadcast_to(acceptance, leaves[0].shape[:1])
    x, energy, acceptance = jax.tree.map(jnp.asarray, (x, energy, acceptance))
    return Draws(x, energy, acceptance, "a test", **settings)


def _noise(*shape):
    return GENERATOR.normal(size=shape)


def test_independent_chains_have_converged():
    draws = _draws(_noise(4, 500, 2))
    assert draws.converged
    assert draws.problems == []
    assert draws.summary == "2000 draws by a test: converged"
    assert draws.rhat.shape == draws.ess.shape == (2,)
    assert (draws.rhat < 1.01).all()
    assert (draws.ess > 1000).all()


def test_chains_apart_have_not():
    x = _noise(4, 500, 2)
    x[3, :, 1] += 3
    draws = _draws(x)
    assert not draws.converged
    assert draws.rhat[0] < 1.01 < 1.1 < draws.rhat[1]
    assert "not converged" in draws.summary


def test_a_slow_energy_alone_is_seen():
    energy = _noise(4, 500) + np.array([0, 0, 0, 3])[:, None]
    assert not _draws(_noise(4, 500, 2), energy).converged


def test_a_chance_r_hat_is_no_disagreement():
    """Independent draws, few in each of many chains: the largest R-hat is above 1.01."""
    (problem,) = _draws(_noise(100, 10, 64)).problems
    assert "R-hat is 1.03" in problem
    assert "10 draws a chain are too few to tell whether chains agree" in problem
    assert "disagree" not in problem
    assert _draws(_noise(4, 250, 64)).converged


def test_disagreement_is_told_from_chance_in_short_chains_too():
    x = _noise(100, 10, 64)
    x[:50, :, 7] += 1.5
    (problem,) = _draws(x).problems
    assert "chains disagree, or 10 draws a chain are too few for them to agree" in problem
    x = _noise(16, 100, 64)
    x[3, :, 7] += 1.0
    (problem,) = _draws(x).problems
    assert "chains disagree; give them a longer warmup" in problem


def test_few_effective_draws_in_the_tails_are_seen():
    """How wide each stretch of draws is comes and goes slowly: the middle does not show it."""
    width = np.exp(np.repeat(_noise(4, 10), 100, axis=1))
    draws = _draws((_noise(4, 1000) * width)[..., None])
    assert draws.ess[0] > 400
    assert draws.ess_tail[0] < 200
    assert any("of the tail, is" in problem for problem in draws.problems)


def test_few_effective_draws_are_seen():
    walk = np.cumsum(_noise(4, 30, 1), 1) * 0.01 + _noise(4, 30, 1)
    problems = _draws(walk).problems
    assert any("effective sample size" in p for p in problems), problems


def test_a_constant_coordinate_is_reported_and_does_not_fail():
    x = _noise(4, 500, 3)
    x[..., 1] = 7.0
    draws = _draws(x)
    assert draws.converged
    assert np.isnan(draws.rhat[1])
    assert np.isnan(draws.ess[1])
    np.testing.assert_array_equal(draws.diagnostics.constant, [False, True, False])


def test_when_nothing_moved_nothing_is_known():
    problems = _draws(np.ones((4, 500, 2))).problems
    assert problems == ["no coordinate ever moved: this says nothing about the model"]


def test_chains_each_constant_but_apart_have_not_converged():
    draws = _draws(np.broadcast_to(np.arange(4.0)[:, None, None], (4, 500, 1)))
    assert draws.rhat[0] > 1e6
    assert not draws.converged


def test_a_coordinate_that_moved_once_hides_nothing():
    x = _noise(4, 101, 3)
    x[:, :, 0] = 0.0
    x[1, 50, 0] = 1.0  # in the middle draw alone, which splitting leaves out: no R-hat
    x[3, :, 1] += 5
    draws = _draws(x)
    assert np.isnan(draws.rhat[0])
    assert not draws.converged
    assert "1 coordinates moved too seldom" in draws.summary
    assert "chains disagree" in draws.summary


def test_energies_that_are_not_finite_name_their_chains():
    for value in (np.nan, np.inf, -np.inf):
        energy = _noise(8, 20)
        energy[[1, 2, 3, 5, 6, 7], 11] = value
        draws = _draws(_noise(8, 20, 1), energy)
        assert not draws.converged
        assert "chains 1, 2, 3, 5, 6 and 1 more met an energy" in draws.problems[0]
        np.testing.assert_array_equal(np.flatnonzero(draws.healthy), [0, 4])
        assert np.isfinite(draws.rhat).all()


def test_values_that_are_not_finite_name_their_chains():
    x = _noise(4, 500, 2)
    x[2, 7, 1] = np.nan
    draws = _draws(x)
    assert draws.problems == ["chains 2 have values that are not finite: look at x along them"]
    x[[0, 1, 3]] = np.inf
    none = _draws(x)
    assert np.isnan(none.rhat).all()
    assert not none.healthy.any()
    assert len(none.problems) == 1


def test_an_acceptance_that_is_no_number_names_its_chains():
    problems = _draws(_noise(4, 500, 1), acceptance=[0.5, np.nan, 0.5, 0.5]).problems
    assert len(problems) == 1
    assert "chains 1 have an acceptance that is not a number" in problems[0]


def test_chains_that_hardly_moved_are_named():
    problems = _draws(_noise(4, 500, 1), acceptance=[0.5, 0.0, 0.5, 1e-4]).problems
    advice = "take smaller proposals (step_size) or another kernel"
    assert problems == [f"chains 1, 3 hardly moved: {advice}"]


def test_one_chain_cannot_show_that_it_mixed():
    draws = _draws(_noise(1, 2000, 1))
    assert draws.problems == ["one chain alone cannot show that it has mixed: run at least 4"]


def test_too_few_draws_say_nothing():
    assert "fewer than 4 draws a chain" in _draws(_noise(100, 3, 1)).problems[0]


def test_independent_draws_have_nothing_to_converge():
    draws = _draws(_noise(1, 3, 2), independent=True)
    assert draws.converged
    assert draws.summary == "3 draws by a test: exact and independent"
    assert not _draws(_noise(1, 3, 2), np.full((1, 3), np.inf), independent=True).converged


def test_named_parts_have_diagnostics_each():
    x = {"a": _noise(4, 500, 2), "b": np.broadcast_to(1, (4, 500))}
    draws = _draws(x)
    assert draws.converged
    assert draws.rhat["a"].shape == (2,)
    assert draws.rhat["b"].shape == ()
    assert np.isnan(draws.ess["b"])
    assert draws.flat["b"].shape == (2000,)
    assert draws.diagnostics["a"].rhat.shape == (2,)


@pytest.mark.skipif(importlib.util.find_spec("arviz") is None, reason="needs arviz")
def test_arviz_gets_the_draws_and_their_log_density():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its import announces changes of its own
        import arviz  # noqa: F401

        for x, names in ((_noise(4, 10, 2), ["x"]), ({"a": _noise(4, 10)}, ["a"])):
            draws = _draws(x)
            data = draws.to_arviz()
            assert list(data["posterior"].data_vars) == names
            parts = x if isinstance(x, dict) else {"x": x}
            for name in names:
                values = data["posterior"][name]
                assert values.dims[:2] == ("chain", "draw")
                np.testing.assert_array_equal(values, parts[name].astype(np.float32))
            np.testing.assert_array_equal(data["sample_stats"]["energy"], draws.energy)
            np.testing.assert_array_equal(data["sample_stats"]["lp"], -draws.energy)


@pytest.mark.skipif(importlib.util.find_spec("arviz") is None, reason="needs arviz")
def test_arviz_gets_parts_within_parts_by_their_paths():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        nested = {"a": {"b": _noise(4, 10), "c": _noise(4, 10, 3)}, "d": _noise(4, 10)}
        for x, names in (
            (nested, {"a.b", "a.c", "d"}),
            ((_noise(4, 10), {"y": _noise(4, 10)}), {"x.0", "x.1.y"}),
        ):
            posterior = _draws(x).to_arviz()["posterior"]
            assert set(posterior.data_vars) == names
            assert {values.dtype for values in posterior.values()} == {np.dtype("float32")}
        np.testing.assert_array_equal(
            _draws(nested).to_arviz()["posterior"]["a.c"], nested["a"]["c"].astype(np.float32)
        )
        with oracles.refused("two arrays are called 'a.b'"):
            _draws({"a": {"b": _noise(4, 10)}, "a.b": _noise(4, 10)}).to_arviz()


@pytest.mark.parametrize(
    "record",
    [
        Draws, Averages, Binned, Convergence, Cooled, Unbiased, Evaluation, LadderReport, Fitted,
    ],
)  # fmt: skip
def test_records_of_arrays_are_compared_by_identity(record):
    assert record.__eq__ is object.__eq__
    assert record.__hash__ is object.__hash__


def test_draws_can_be_compared():
    draws = _draws(_noise(4, 10, 2))
    assert draws == draws
    assert draws != _draws(draws.x)
    assert draws.diagnostics == draws.diagnostics
    assert draws.energy_diagnostics != draws.diagnostics
    assert len({draws, draws}) == 1


def test_without_arviz_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "arviz", None)
    with pytest.raises(ImportError, match=r'pip install "energax\[arviz\]"'):
        _draws(_noise(2, 4, 1)).to_arviz()
