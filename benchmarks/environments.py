"""The peers' own environments: one virtual environment each, with pinned versions.

    python benchmarks/environments.py                  # make all that are missing
    python benchmarks/environments.py --peer rbms

They lie in the folder that the variable ENERGAX_BENCH_ENVS names, else in
`~/.cache/energax-bench`. Packages come from wherever pip is set up to look: on Linux its plain
default brings PyTorch with CUDA libraries, several gigabytes that nothing here uses, so point pip
at a CPU build first (`PIP_INDEX_URL`, `PIP_FIND_LINKS`) where that matters.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

HERE = "energax"
"""The name of the Python that runs this, which has energax."""

_TORCH = ("numpy==2.4.6", "torch==2.13.0")
_JAX = ("numpy==2.4.6", "jax==0.10.2", "jaxlib==0.10.2")

REQUIREMENTS = {
    "torch": (_TORCH,),
    "scikit-learn": (("numpy==2.4.6", "scipy==1.17.1", "scikit-learn==1.9.1"),),
    # These after torch, so that pip keeps the build it has been given.
    "rbms": (_TORCH, ("rbms==0.5.0",)),
    "torchebm": (_TORCH, ("torchebm==0.8.9",)),
    "ebmkit": (_TORCH, ("ebmkit==0.16.0",)),
    # On the JAX that energax is measured with (constraints.txt).
    "blackjax": ((*_JAX, "blackjax==1.7.1"),),
    "numpyro": ((*_JAX, "numpyro==0.22.0"),),
    "thrml": ((*_JAX, "equinox==0.13.8", "thrml==0.1.4"),),
    "hamon": ((*_JAX, "equinox==0.13.8", "hamon==0.4.0"),),
    "peapods": (("numpy==2.4.6", "peapods==0.2.0"),),
    "mcising": (("numpy==2.4.6", "mcising==1.1.0"),),
    "dwave": (("numpy==2.4.6", "dimod==0.12.23", "dwave-samplers==1.8.0"),),
}
"""What each peer's environment holds: groups, installed one after another."""


def folder() -> Path:
    """Where the environments lie."""
    chosen = os.environ.get("ENERGAX_BENCH_ENVS")
    return Path(chosen) if chosen else Path.home() / ".cache" / "energax-bench"


def python_of(peer: str) -> Path:
    """The interpreter of a peer's environment, which is made if it is missing or outdated."""
    if peer == HERE:
        return Path(sys.executable)
    place = folder() / peer
    python = place / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    wanted = repr((sys.version_info[:2], REQUIREMENTS[peer])) + "\n"
    made = place / "requirements-installed"
    if python.exists() and made.exists() and made.read_text() == wanted:
        return python
    print(f"making the environment of {peer} in {place}", flush=True)
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(place)], check=True)
    for group in REQUIREMENTS[peer]:
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, *group], check=True)
    made.write_text(wanted)
    return python


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--peer", choices=REQUIREMENTS, help="one peer instead of all")
    arguments = parser.parse_args()
    for peer in [arguments.peer] if arguments.peer else REQUIREMENTS:
        print(f"{peer}: {python_of(peer)}")


if __name__ == "__main__":
    main()
