"""What stands beside the bar."""

import pytest

from energax.sampling._progress import shown_measures

MEASURES = {"chain_rhat": 1.2345678, "energy_gap": -0.5, "log_likelihood": -93.2, "acceptance": 1.0}


@pytest.mark.parametrize(
    ("room", "words"),
    [
        (0, "energy_gap -0.5"),
        (40, "energy_gap -0.5, log_likelihood -93.2"),
        (80, "energy_gap -0.5, log_likelihood -93.2, chain_rhat 1.235"),
    ],
)
def test_as_many_measures_as_there_is_room_for(room, words):
    assert shown_measures(MEASURES, room) == words


def test_without_measures_there_are_no_words():
    assert shown_measures({}, 80) == shown_measures({"acceptance": 1.0}, 80) == ""
