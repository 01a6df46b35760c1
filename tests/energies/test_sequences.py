"""Energies of sequences against loops over their tokens."""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import logsumexp

import energax as ex
import oracles
from energax.energies import trainable


def _tables(*sizes):
    return [np.random.default_rng(n).normal(size=size) for n, size in enumerate(sizes)]


def _energy_by_hand(tables, x, n_states, padding):
    """Of tables with a weight for every n-gram."""
    order, total = len(tables), 0.0
    ends = [] if padding is None else [padding] * order
    for n, table in enumerate(tables, 1):
        # Padded at both ends, each run of n that holds a token of the sequence, once.
        more = ends[: n - 1]
        tokens = [*more, *x, *more]
        for t in range(len(tokens) - n + 1):
            run = tuple(tokens[t : t + n])
            if padding is None or any(token != padding for token in run):
                total -= table.reshape((n_states,) * n)[run]
    return total


@pytest.mark.parametrize("padding", [None, 0, 2])
def test_n_grams_are_added_up(padding, x64):
    tables = _tables(3, 9, 27)
    model = ex.NGramEnergy(tables, 4, 3, padding=padding)
    assert model.order == 3
    found = oracles.energies(model)
    expected = [
        _energy_by_hand(tables, x, 3, padding) for x in itertools.product(range(3), repeat=4)
    ]
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_padding_costs_nothing(x64):
    """A sequence has the energy it has alone, however much room is left behind it or before."""
    tables = _tables(5, 25, 40)
    short = ex.NGramEnergy(tables, 3, 5, padding=4)
    long = ex.NGramEnergy(tables, 7, 5, padding=4)
    energies = jax.jit(lambda x, y, z: (short.energy(x), long.energy(y), long.energy(z)))
    one, two, three = energies(
        jnp.array([1, 3, 0]), jnp.array([1, 3, 0, 4, 4, 4, 4]), jnp.array([4, 4, 4, 1, 3, 0, 4])
    )
    np.testing.assert_allclose([float(two), float(three)], float(one), atol=1e-12)
    assert float(long.energy(jnp.full((7,), 4))) == 0.0
    assert abs(float(one)) > 0.1


def test_n_grams_that_hash_alike_share_a_weight(x64):
    # Which weights a sequence takes are the places where the gradient is not zero.
    k, size = 50, 97
    model = ex.NGramEnergy([np.zeros(50), np.zeros(size)], 2, k)
    places = jax.jit(jax.vmap(lambda x: -jax.grad(lambda m: m.energy(x))(model).tables[1]))
    pairs = np.array(list(itertools.product(range(k), repeat=2)))
    counts = np.asarray(places(jnp.asarray(pairs, jnp.int32)))
    assert ((counts == 0) | (counts == 1)).all()
    np.testing.assert_array_equal(counts.sum(1), 1)
    place = counts.argmax(1)
    # Spread evenly: 2,500 pairs over 97 places, a chi-squared number; false alarm 1e-5.
    oracles.assert_drawn_from(np.bincount(place, minlength=size), np.full(size, 1 / size))
    # And not by either token alone.
    table = place.reshape(k, k)
    assert min(len(set(row)) for row in (*table, *table.T)) > 25
    full = ex.NGramEnergy.init(6, 10, order=3, n_buckets=500)
    assert [table.size for table in full.tables] == [10, 100, 500]


@pytest.mark.parametrize("padding", [None, 3])
@pytest.mark.parametrize("sizes", [(4, 16), (4, 10, 30)])
def test_changes_of_a_token_are_those_of_the_energy(sizes, padding, x64):
    model = ex.NGramEnergy(_tables(*sizes), 5, 4, padding=padding)
    x = jnp.array([[0, 2, 1, 3, 3], [3, 1, 1, 0, 2]], jnp.int32)

    @jax.jit
    def both(x):
        def by_hand(site, value):
            return model.energy(x.at[site].set(value)) - model.energy(x)

        sites, values = jnp.arange(5), jnp.arange(4, dtype=jnp.int32)
        expected = jax.vmap(lambda s: jax.vmap(lambda v: by_hand(s, v))(values))(sites)
        return jax.vmap(lambda s: model.site_changes(x, s))(sites), expected

    found, expected = jax.vmap(both)(x)
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_pseudo_likelihood_learns_which_token_follows_which():
    """Sequences that count round in a ring, of which the middle one is hidden."""
    rows = (np.arange(5)[:, None] + np.arange(6)[None]) % 5
    model = ex.NGramEnergy.init(6, 5, order=2)
    run = ex.fit(model, rows, ex.PseudoLikelihood(), key=ex.key(0), learning_rate=0.1, steps=300)
    assert run.ok
    assert run.history[-1]["pseudo_likelihood"] > -0.2
    changes = run.energy.site_changes(jnp.array([3, 4, 0, 2, 2, 3], jnp.int32), jnp.array(3))
    assert int(jnp.argmin(changes)) == 1


def test_a_network_reads_both_ways_and_no_padding(x64):
    space = ex.Categorical(6, 5)
    network = ex.SequenceNetwork.init(ex.key(0), space, width=8, padding=4)
    model = ex.NeuralEnergy(network, space)
    rows = jnp.array(
        [[0, 1, 2, 4, 4, 4], [4, 0, 4, 1, 2, 4], [0, 1, 3, 4, 4, 4], [3, 1, 2, 4, 4, 4]], jnp.int32
    )
    e = np.asarray(jax.jit(jax.vmap(model.energy))(rows))
    assert e[0] == pytest.approx(e[1], abs=1e-12)
    assert len(np.unique(e.round(9))) == 3
    assert float(model.energy(jnp.full((6,), 4, jnp.int32))) == 0.0
    # What stands at the ends changes what is read in the middle, from either side.
    inner = jax.jit(lambda x: jax.grad(lambda n: n(x))(network).embedding)
    base = np.asarray(inner(jnp.array([0, 1, 2, 4, 4, 4])))[1]
    for other in ([3, 1, 2, 4, 4, 4], [0, 1, 3, 4, 4, 4]):
        assert np.abs(np.asarray(inner(jnp.array(other)))[1] - base).max() > 1e-6


def test_a_network_is_what_its_equations_say(x64):
    space = ex.Categorical(4, 3)
    network = ex.SequenceNetwork.init(ex.key(1), space, width=5)
    biases = jax.random.normal(ex.key(2), (2, 15))
    network = eqx.tree_at(lambda n: n.biases, network, biases)
    x = [0, 2, 1, 1]

    def read(way, tokens):
        h, seen = np.zeros(5), []
        w_r, w_z, w_n = np.split(np.asarray(network.inputs[way]), 3, axis=1)
        v_r, v_z, v_n = np.split(np.asarray(network.memories[way]), 3, axis=1)
        b_r, b_z, b_n = np.split(np.asarray(biases[way]), 3)
        for token in tokens:
            e = np.asarray(network.embedding[token])
            r = 1 / (1 + np.exp(-(e @ w_r + h @ v_r + b_r)))
            z = 1 / (1 + np.exp(-(e @ w_z + h @ v_z + b_z)))
            h = z * h + (1 - z) * np.tanh(e @ w_n + r * (h @ v_n) + b_n)
            seen.append(h)
        return seen

    total = 0.0
    for h, g in zip(read(0, x), read(1, x[::-1])[::-1], strict=True):
        hidden = np.tanh(np.concatenate([h, g]) @ network.mixing + network.bias)
        total += float(hidden @ network.readout)
    assert float(network(jnp.array(x))) == pytest.approx(total, rel=1e-12)


def test_models_of_sequences_are_saved_and_loaded(tmp_path):
    space, x = ex.Categorical(4, 3), jnp.array([0, 1, 2, 2], jnp.int32)
    unigram = ex.UnigramSequences(np.zeros(5), np.arange(3.0), padding=2)
    network = ex.SequenceNetwork.init(ex.key(0), space, width=4, padding=2)
    grams = ex.NGramEnergy([np.arange(3.0), np.arange(7.0)], 4, 3, padding=2)
    model = ex.freeze(unigram) * ex.NeuralEnergy(network, space) * grams
    ex.save(model, tmp_path / "model.energax")
    again = ex.load(tmp_path / "model.energax")
    assert jax.tree.structure(again) == jax.tree.structure(model)
    assert float(again.energy(x)) == float(model.energy(x))


def test_unigram_sequences_are_normalised_and_drawn(x64):
    model = ex.UnigramSequences([0.3, -1.0, 0.5, 0.2], [0.5, -0.5, 7.0, 0.1], padding=2)
    assert oracles.log_z(model) == pytest.approx(0.0, abs=1e-12)
    p = oracles.probabilities(model)
    assert (p > 0).sum() == 1 + 3 + 9 + 27
    drawn = oracles.index_of(model.space, oracles.draws(model, 20_000))
    oracles.assert_drawn_from(np.bincount(drawn, minlength=p.size), p)
    lengths = np.exp([0.3, -1.0, 0.5, 0.2]) / np.exp([0.3, -1.0, 0.5, 0.2]).sum()
    words = np.array([0.5, -0.5, 0.1]) - logsumexp([0.5, -0.5, 0.1])
    expected = -np.log(lengths[2]) - words[0] - words[2]
    assert float(model.energy(jnp.array([0, 3, 2], jnp.int32))) == pytest.approx(expected)


def test_unigram_sequences_from_data_are_the_shares():
    rows = np.array([[0, 1, 2, 2], [0, 0, 0, 2], [1, 2, 2, 2]])
    model = ex.UnigramSequences.from_data(rows, ex.Categorical(4, 3), padding=2)
    np.testing.assert_allclose(
        jax.nn.softmax(model.lengths), np.array([0.5, 1.5, 1.5, 1.5, 0.5]) / 5.5, rtol=1e-6
    )
    shares = np.exp(np.asarray(model._log_shares()))
    np.testing.assert_allclose(shares, np.array([4.5, 2.5, 0.0]) / 7.0, rtol=1e-6)
    parameters = eqx.filter(model, trainable(model))
    assert len(jax.tree.leaves(parameters)) == 2


def test_what_cannot_be_is_refused():
    for arguments, words in (
        (([], 3, 3), ("at least one vector",)),
        (([np.zeros(3), np.zeros(10)], 3, 3), ("tables[1]", "1 to 9", "(10,)")),
        (([np.zeros((3, 3))], 3, 3), ("tables[0]", "vector")),
        (([np.zeros(3)] * 3, 2, 3), ("2 tokens", "3-grams")),
        (([np.array([0.0, np.nan, 0.0])], 3, 3), ("tables[0]", "finite")),
        (([np.zeros(3)], 0, 3), ("length", "0")),
    ):
        with oracles.refused(*words):
            ex.NGramEnergy(*arguments)
    with oracles.refused("padding", "at most 2", "3"):
        ex.NGramEnergy([np.zeros(3)], 2, 3, padding=3)
    with oracles.refused("n_buckets", "0"):
        ex.NGramEnergy.init(3, 3, n_buckets=0)
    with oracles.refused("vector of labels", "Binary"):
        ex.SequenceNetwork.init(ex.key(0), ex.Binary(3))
    with oracles.refused("padding", "9"):
        ex.SequenceNetwork.init(ex.key(0), ex.Categorical(3, 4), padding=9)
    with oracles.refused("lengths must be a vector"):
        ex.UnigramSequences(0.0, np.zeros(3), padding=0)
    space = ex.Categorical(3, 3)
    with oracles.refused("row 1", "behind padding"):
        ex.UnigramSequences.from_data([[0, 1, 2], [0, 2, 1]], space, padding=2)
    with oracles.refused("pseudo_count", "0"):
        ex.UnigramSequences.from_data([[0, 1, 2]], space, padding=2, pseudo_count=0)
