"""What an estimate says of its own cost: chains moved, seconds, and the lines it prints."""

import pytest

import energax as ex
from energax.partition import (
    adaptive_ladder,
    log_partition_annealed,
    log_partition_bracketed,
    log_partition_mbar,
    log_partition_reverse,
    log_partition_smc,
    tempered_run,
)

ISING = ex.Ising(4, 0.4)
BASE = ex.Uniform(ISING.space)


def test_steps_are_moves_of_single_chains():
    up = log_partition_annealed(ISING, BASE, key=ex.key(0), n_chains=10, n_temperatures=20)
    # At the last temperature nothing moves.
    assert up.diagnostics["n_steps"] == 10 * 19
    x = ex.exact.draw_enumerated(ISING, 6, key=ex.key(1))
    down = log_partition_reverse(ISING, BASE, x, key=ex.key(0), n_temperatures=20)
    assert down.diagnostics["n_steps"] == 6 * 19
    given = {"n_ladders": 4, "n_replicas": 3, "n_draws": 5, "thin": 2, "warmup": 10}
    assert tempered_run(ISING, BASE, key=ex.key(0), **given).n_steps == 4 * 3 * (10 + 5 * 2)
    mbar = log_partition_mbar(ISING, BASE, key=ex.key(0), **given)
    assert mbar.diagnostics["n_steps"] == 4 * 3 * (10 + 5 * 2)


def test_a_ladder_that_had_to_be_found_counts():
    betas = adaptive_ladder(ISING, BASE, key=ex.key(0), n_chains=40)
    n = len(betas) - 1
    known = log_partition_smc(ISING, BASE, key=ex.key(0), n_chains=40, betas=betas)
    assert known.diagnostics["n_steps"] == 40 * n
    found = log_partition_smc(ISING, BASE, key=ex.key(0), n_chains=40)
    assert found.diagnostics["n_steps"] == 2 * 40 * found.diagnostics["n_temperatures"]


def test_a_bracket_counts_all_that_it_tried():
    z = log_partition_bracketed(
        ISING, BASE, key=ex.key(0), n_chains=25, n_temperatures=30, n_replicas=8
    )
    parts = z.parts
    assert set(parts) == {"forward", "reverse", "mbar"}
    spent = sum(part.diagnostics["n_steps"] for part in parts.values())
    assert z.trusted
    # One run of replicas if it was healthy at once; four times as long a second one if not.
    assert z.diagnostics["n_steps"] >= spent > 0
    assert z.diagnostics["seconds"] >= parts["forward"].diagnostics["seconds"] > 0


def test_the_cost_is_in_words():
    z = ex.LogPartition(1.0, 0.5, 1.5, 0.2, False, "a test", True)
    assert z.cost == ""
    assert z.table == z.summary
    z.diagnostics.update(seconds=1234.56, n_steps=9876543)
    assert z.cost == "1,234.6 s, 9,876,543 steps of chains"
    assert z.table == f"{z.summary}\n  cost              {z.cost}"
    listed = ex.log_partition(ISING, key=ex.key(0), method="enumeration")
    assert listed.cost.endswith(" s, 16 states listed")
    chain = ex.log_partition(ISING, key=ex.key(0), method="elimination")
    assert chain.cost.endswith(" operations")


@pytest.mark.parametrize("method", ["mbar", "bridge", "thermodynamic integration", "smc"])
def test_every_estimate_knows_its_cost(method):
    found = ex.log_partition(ISING, key=ex.key(0), method=method).diagnostics
    assert found["seconds"] > 0
    assert found["n_steps"] > 0


def test_the_table_has_the_parts_of_a_bracket():
    parts = {
        "forward": ex.LogPartition(1.0, 0.5, 1.25, 0.2, False, "up", True),
        "mbar": ex.LogPartition(1.5, 1.0, 2.0, 0.2, False, "mbar", True),
    }
    z = ex.LogPartition(1.25, 0.5, 2.0, 0.2, False, "both", True, diagnostics=parts)
    assert z.table.splitlines()[1:] == [
        "  annealed up       1.000 [0.500, 1.250]",
        "  replica exchange  1.500 [1.000, 2.000]",
    ]
