"""One constructor for every public energy, kernel and objective.

A new one is added here once and then runs through every contract test.
"""

import jax
import jax.numpy as jnp
import numpy as np

import energax as ex
from energax.exact import all_states


def _rbm(n_visible=4, n_hidden=3, seed=0, scale=0.8):
    keys = jax.random.split(ex.key(seed), 3)
    return ex.RBM(
        scale * jax.random.normal(keys[0], (n_visible, n_hidden)),
        0.5 * jax.random.normal(keys[1], (n_visible,)),
        0.5 * jax.random.normal(keys[2], (n_hidden,)),
    )


def _table(space, seed=0):
    """An energy given by a table over the states of a small discrete space."""
    values = jnp.asarray(np.random.default_rng(seed).normal(size=space.cardinality) * 1.2)
    listed = jax.tree.leaves(jax.jit(lambda: all_states(space))())

    def look_up(x):
        same = [rows == leaf[None] for rows, leaf in zip(listed, jax.tree.leaves(x), strict=True)]
        match = jnp.all(jnp.stack([s.reshape(len(s), -1).all(1) for s in same]), 0)
        return values @ match.astype(values.dtype)

    return ex.NeuralEnergy(look_up, space)


def _normal(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape)


def _double_well():
    return ex.NeuralEnergy(lambda x: -((x**2 - 1) ** 2), ex.Real())


def _observed(labels):
    """Three labels of which the middle one is 2."""
    return ex.condition(labels, np.array([0, 2, 0]), np.array([False, True, False]))


DISCRETE = {
    "rbm": _rbm,
    "rbm.joint": lambda: _rbm(3, 2).joint,
    "conditioned rbm": lambda: ex.condition(
        _rbm(), np.array([1, 0, 1, 0]), np.array([True, False, False, True])
    ),
    "annealed rbm": lambda: ex.path(ex.Bernoulli(jnp.linspace(-1.0, 1.0, 4)), _rbm(), 0.6),
    "tempered rbm": lambda: _rbm() ** 0.5,
    "rbm times bernoulli": lambda: _rbm() * ex.Bernoulli(jnp.linspace(-1.0, 1.0, 4)),
    "rbm times rbm": lambda: _rbm() * _rbm(seed=1),
    "frozen rbm": lambda: ex.freeze(_rbm()),
    "bernoulli": lambda: ex.Bernoulli(jnp.linspace(-1.0, 1.0, 4)),
    "conditioned softmax": lambda: _observed(ex.Softmax(_normal(19, 3, 3))).inner,
    "softmax": lambda: ex.Softmax(jnp.linspace(-1.0, 1.0, 6).reshape(2, 3)),
    "table of bits": lambda: _table(ex.Binary(3)),
    "table of spins": lambda: _table(ex.Spin(3)),
    "table of labels": lambda: _table(ex.Categorical(2, 3)),
    "table of a joint": lambda: _table(ex.Joint(a=ex.Spin(2), b=ex.Categorical((), 3))),
    "mixture": lambda: ex.mixture(
        [ex.Bernoulli(jnp.array([1.0, -1.0])), ex.Bernoulli(jnp.array([-2.0, 0.5]))], [0.3, 0.7]
    ),
    "mixture of rbms": lambda: ex.mixture([_rbm(), _rbm(seed=1)]),
    "exponential family": lambda: ex.ExponentialFamily(
        lambda x: jnp.stack([jnp.sum(x), x[0] * x[1]]), jnp.array([0.3, -0.8]), ex.Binary(3)
    ),
    "conditioned table": lambda: ex.condition(
        _table(ex.Categorical(3, 2)), np.array([1, 0, 0]), np.array([True, False, False])
    ),
    "conditioned joint": lambda: ex.condition(
        _table(ex.Joint(a=ex.Spin(2), b=ex.Categorical((), 3))), {"b": 2}
    ),
    "n-grams": lambda: ex.NGramEnergy(
        [_normal(20, 3), _normal(21, 9), _normal(22, 7)], length=3, n_states=3, padding=2
    ),
    "geometric path": lambda: ex.path(ex.Uniform(ex.Spin(3)), _table(ex.Spin(3)), 0.4),
}
"""Energies over small discrete spaces, each checked against enumeration."""

GRAPHS = {
    "ising on open rows": lambda: ex.Ising(
        (2, 3), 0.5, jnp.linspace(-0.6, 0.8, 6).reshape(2, 3), periodic=False
    ),
    "ising on a square": lambda: ex.Ising((2, 2), 0.7, 0.1, periodic=False),
    "ising on an odd torus": lambda: ex.Ising((3, 3), 0.3, 0.1),
    "ising on a ring": lambda: ex.Ising(4, _normal(0, 4), _normal(1, 4)),
    "ising on a tube": lambda: ex.Ising((2, 4), _normal(2, 2, 2, 4), 0.2, periodic=(False, True)),
    "ising on a graph": lambda: ex.Ising(
        ex.Graph([(0, 1), (1, 2), (2, 0), (3, 2), (3, 4)], 6), _normal(3, 5), _normal(4, 6)
    ),
    "ferromagnet on a graph": lambda: ex.Ising(
        ex.Graph([(0, 1), (1, 2), (2, 0)], 4), [0.5, 1.2, 0.0], [0.3, -0.5, 0.1, 0.4]
    ),
    "ising on a dense graph": lambda: ex.Ising(
        [(i, j) for i in range(5) for j in range(i)], _normal(7, 10), _normal(8, 5)
    ),
    "conditioned dense potts": lambda: ex.condition(
        ex.Potts([(i, j) for i in range(5) for j in range(i)], 3, 0.4, _normal(9, 5, 3)),
        np.array([0, 2, 0, 1, 0]),
        np.array([False, True, False, True, False]),
    ),
    "conditioned ising": lambda: ex.condition(
        ex.Ising((2, 3), 0.5, 0.2, periodic=(False, True)),
        np.array([[1, -1, 1], [1, 1, 1]]),
        np.array([[False, True, False], [True, False, False]]),
    ),
    "path to ising": lambda: ex.path(ex.Uniform(ex.Spin(4)), ex.Ising(4, 0.8, 0.3), 0.6),
    "potts on a graph": lambda: ex.Potts([(0, 1), (1, 2), (2, 0), (3, 2)], 3, _normal(5, 4)),
    "potts on open rows": lambda: ex.Potts((2, 2), 3, 0.7, _normal(6, 2, 2, 3), periodic=False),
    "factor graph": lambda: ex.FactorGraph(
        4,
        2,
        [
            ex.Factor((0, 1, 2), _normal(7, 2, 2, 2)),
            ex.Factor([(1, 3), (3, 0)], _normal(8, 2, 2)),
            ex.Factor([[2], [3]], _normal(9, 2, 2)),
        ],
    ),
    "path to a factor graph": lambda: ex.path(
        ex.Softmax(_normal(11, 3, 2)),
        ex.FactorGraph(3, 2, [ex.Factor([(0, 1), (1, 2), (0, 2)], _normal(12, 2, 2))]),
        0.6,
    ),
    "path to potts": lambda: ex.path(
        ex.Softmax(_normal(13, 3, 3)), ex.Potts([(0, 1), (1, 2), (2, 0)], 3, _normal(14, 3)), 0.6
    ),
    "path to conditioned potts": lambda: ex.path(
        _observed(ex.Softmax(_normal(15, 3, 3))).inner,
        _observed(ex.Potts([(0, 1), (1, 2), (2, 0)], 3, _normal(16, 3))),
        0.6,
    ),
    "conditioned path": lambda: ex.condition(
        ex.path(ex.Uniform(ex.Spin(4)), ex.Ising(4, 0.8, 0.3), 0.6),
        np.array([1, -1, 1, 1]),
        np.array([True, True, False, False]),
    ),
    "uneven factor graph": lambda: ex.FactorGraph(
        3, [2, 3, 2], [ex.Factor((0, 1), _normal(17, 2, 3)), ex.Factor((2, 1), _normal(18, 2, 3))]
    ),
    "factor graph of labels": lambda: ex.FactorGraph(
        (1, 3), 3, [ex.Factor([(0, 1), (2, 1)], _normal(10, 2, 3, 3))]
    ),
}
"""Models on lattices and graphs of few sites."""

DISCRETE |= GRAPHS

CONTINUOUS = {
    "gaussian": lambda: ex.Gaussian(jnp.array([0.5, -1.0]), jnp.array([0.7, 1.5])),
    "multivariate gaussian": lambda: ex.MultivariateGaussian(
        jnp.array([0.5, -1.0]), jnp.array([[1.0, 0.6], [0.6, 2.0]])
    ),
    "exponential": lambda: ex.Exponential(jnp.array([0.5, 2.0])),
    "gaussian times gaussian": lambda: (
        ex.Gaussian(jnp.zeros(2), 2.0) * ex.Gaussian(jnp.ones(2), 1.0)
    ),
    "tempered gaussian": lambda: ex.Gaussian(jnp.zeros(2), 2.0) ** 0.5,
    "gaussian mixture": lambda: ex.mixture(
        [ex.Gaussian(jnp.array(-2.0), 0.5), ex.Gaussian(jnp.array(1.0), 1.0)], [0.4, 0.6]
    ),
    "double well": _double_well,
    "box": lambda: ex.NeuralEnergy(lambda x: -3 * x[0] * x[1], ex.Box(2, -1.0, 1.0)),
    "uniform box": lambda: ex.Uniform(ex.Box(2, -1.0, 3.0)),
    "squared network": lambda: ex.NeuralEnergy(
        lambda x: jnp.exp(-(x**2)), ex.Real(), positive="square"
    ),
    "two double wells": lambda: ex.DoubleWell(jnp.array([1.0, 3.0]), jnp.array([1.0, 0.7])),
    "ring": lambda: ex.Ring(1.0, 0.2),
    "banana": lambda: ex.Banana(0.5, scale=1.0, width=0.5),
    "funnel": lambda: ex.Funnel(2, 0.5),
    "gaussian mrf": lambda: ex.GaussianMRF([(0, 1)], 0.8, mass=[0.5, 1.0], mean=[1.0, -1.0]),
    "mueller brown": lambda: ex.MuellerBrown() ** 0.05,
    "many gaussians": lambda: ex.GaussianMixture.ring(3, radius=2.0),
    "network of noises": lambda: ex.NoiseConditional(
        lambda x, noise: -0.5 * jnp.sum((x - 1) ** 2) / (1 + noise**2), ex.Real(2), [2.0, 0.5]
    ),
}
"""Energies over real states in one or two dimensions, each checked against a grid."""

COUNTS = {"poisson": lambda: ex.Poisson(jnp.array([0.5, 3.0]))}
"""Energies over infinitely many discrete states."""


def _alternating(energy):
    """A kernel for each part, those of an array of spins and of labels of different kinds."""
    space = energy.space
    parts = space.parts if isinstance(space, ex.Joint) else {"x": space}
    return ex.Alternating(
        {
            name: ex.GibbsWithGradients() if isinstance(part, ex.Spin) else ex.Gibbs("random")
            for name, part in parts.items()
        }
    )


KERNELS = {
    "random walk": lambda energy: ex.RandomWalkMetropolis(0.8),
    "block gibbs": lambda energy: ex.BlockGibbs(),
    "mala": lambda energy: ex.MALA(0.4),
    "hmc": lambda energy: ex.HMC(0.3, 4),
    "nuts": lambda energy: ex.NUTS(0.5, 3),
    "langevin": lambda energy: ex.UnadjustedLangevin(0.05),
    "underdamped langevin": lambda energy: ex.UnderdampedLangevin(0.2),
    "gibbs": lambda energy: ex.Gibbs(),
    "gibbs at random": lambda energy: ex.Gibbs("random"),
    "gibbs with gradients": lambda energy: ex.GibbsWithGradients(),
    "discrete langevin": lambda energy: ex.DiscreteLangevin(0.8),
    "alternating": _alternating,
    "swendsen-wang": lambda energy: ex.SwendsenWang(),
    "wolff": lambda energy: ex.Wolff(),
    "packed gibbs": lambda energy: ex.PackedGibbs(),
    "replica exchange": lambda energy: ex.ReplicaExchange(
        ex.RandomWalkMetropolis(0.8), [0.4, 1.0], adapt=False
    ),
}
"""Kernels by name, made for an energy; those that do not fit it refuse in `check`."""

ON_A_FEW = {
    "gibbs",
    "gibbs at random",
    "gibbs with gradients",
    "discrete langevin",
    "alternating",
    "replica exchange",
}
"""Kernels that know of an energy nothing but its value, its gradient and its space: they run
through the contract on `FEW` models, one for each kind of space and of wrapper."""

FEW = {
    "rbm",
    "conditioned rbm",
    "annealed rbm",
    "table of bits",
    "table of spins",
    "table of labels",
    "table of a joint",
    "conditioned table",
    "mixture",
}

OBJECTIVES = {
    "maximum likelihood": lambda: ex.MaximumLikelihood(),
    "cd": lambda: ex.ContrastiveDivergence(n_steps=2),
    "pcd": lambda: ex.PersistentContrastiveDivergence(n_steps=2, n_chains=20),
    "pseudo-likelihood": lambda: ex.PseudoLikelihood(),
    "pseudo-likelihood of a few": lambda: ex.PseudoLikelihood(n_sites=2),
    "ratio matching": lambda: ex.RatioMatching(),
    "probability flow": lambda: ex.MinimumProbabilityFlow(),
    "composite likelihood": lambda: ex.CompositeLikelihood(2),
    "monte carlo": lambda: ex.MonteCarloMaximumLikelihood(n_steps=5, n_samples=4),
    "noise contrastive": lambda: ex.NoiseContrastiveEstimation(),
    "energy discrepancy": lambda: ex.EnergyDiscrepancy(redrawn=0.5),
    "replay buffer": lambda: ex.ReplayBuffer(size=60, n_chains=20, n_steps=2),
    "tempered cd": lambda: ex.TemperedContrastiveDivergence(n_chains=10, n_replicas=3),
    "unbiased cd": lambda: ex.UnbiasedContrastiveDivergence(n_pairs=14, k=1, m=3),
}
"""Objectives that learn from rows of bits."""

CONTINUOUS_OBJECTIVES = {
    "cd": lambda: ex.ContrastiveDivergence(n_steps=2),
    "pcd": lambda: ex.PersistentContrastiveDivergence(n_steps=10, n_chains=20),
    "monte carlo": lambda: ex.MonteCarloMaximumLikelihood(n_steps=20, n_samples=10),
    "score matching": lambda: ex.ScoreMatching(),
    "sliced score matching": lambda: ex.SlicedScoreMatching(),
    "denoising score matching": lambda: ex.DenoisingScoreMatching(0.2),
    "noise contrastive": lambda: ex.NoiseContrastiveEstimation(),
    "energy discrepancy": lambda: ex.EnergyDiscrepancy(),
    "replay buffer": lambda: ex.ReplayBuffer(
        size=200, n_chains=50, n_steps=5, data_noise=0.1, kernel=ex.UnadjustedLangevin(0.05)
    ),
    "tempered cd": lambda: ex.TemperedContrastiveDivergence(n_steps=5, n_chains=10, n_replicas=3),
    "combined": lambda: ex.CombinedObjective(
        [
            ex.DenoisingScoreMatching(0.2),
            ex.ReplayBuffer(
                size=200, n_chains=50, n_steps=5, data_noise=0.2, kernel=ex.UnadjustedLangevin(0.05)
            ),
        ],
        [0.5, 1.0],
    ),
    "unbiased cd": lambda: ex.UnbiasedContrastiveDivergence(
        n_pairs=30, kernel=ex.RandomWalkMetropolis(1.0)
    ),
}
"""Objectives that learn from rows of real numbers. One that is in a single list refuses the
energies of the other in `prepare`."""

JOINT_OBJECTIVES = {
    "conditional likelihood": lambda: ex.ConditionalLikelihood("hidden"),
    "joint classifier": lambda: ex.JointClassifier(
        "hidden", ex.PersistentContrastiveDivergence(n_chains=10)
    ),
}
"""Objectives that learn parts of a `Joint` given the others: here one layer of a machine."""
