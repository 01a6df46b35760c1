"""Every example runs as a user would run it, with tiny arguments."""

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"

TINY = {
    "climbing_is_not_sampling.py": ["--chains", "20", "--steps", "40"],
    "cost_of_z.py": [
        *("--units", "4", "--held-units", "4", "--dimensions", "2", "--held-dimensions", "1"),
        *("--points", "20", "--repeats", "1"),
    ],
    "digits.py": ["--hidden", "4", "--epochs", "2", "--draws", "400", "--temperatures", "20"],
    "sentences.py": [
        *("--words", "30", "--steps", "40", "--network-steps", "20", "--width", "8"),
        *("--batch", "16", "--held-out", "3", "--network-held-out", "2"),
    ],
    "own_energy.py": ["--draws", "160", "--thin", "1", "--temperatures", "50", "--points", "50"],
}
FILES = {
    "climbing_is_not_sampling.py": {
        "climbing_is_not_sampling.json",
        "climbing_is_not_sampling.png",
    },
    "cost_of_z.py": {"cost_of_z.json", "cost_of_z.png"},
    "sentences.py": {"sentences.json"},
}


def test_every_example_has_tiny_arguments():
    assert set(TINY) == {path.name for path in EXAMPLES.glob("*.py")}


@pytest.mark.parametrize("name", TINY)
def test_example_runs(name, tmp_path):
    done = subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLES / name), *TINY[name]],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    assert {path.name for path in tmp_path.iterdir()} == FILES.get(name, set())
