"""Every benchmark, one after another.

    python benchmarks/run.py            # about four hours, on a machine with nothing else to do
    python benchmarks/run.py --quick    # minutes: only to see that they run; writes no results

Those that need MNIST are run where ENERGAX_DATA names a folder with it.
Exit status: 1 if a benchmark could not be run, if training that was killed did not resume bit for
bit, or if the guard of training missed a failure or cried wolf. A speed or another number beyond
its bar is printed, not an error.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

SCRIPTS = (
    "import_time.py",
    "random_rate.py",
    "rbm.py",
    "ising.py",
    "langevin.py",
    "hmc.py",
    "gibbs_with_gradients.py",
    "deep_training.py",
    "ess_per_second.py",
    "cold_start.py",
    "enumeration.py",
    "quadrature.py",
    "elimination.py",
    "toy_densities.py",
    "annealing_precision.py",
    "coverage.py",
    "bars_and_stripes.py",
    "kill_and_resume.py",
    "guard.py",
    "likelihood_curves.py",
    "annealing_mnist.py",
    "deep_images.py",
    "main_job.py",
)

_WITH_DATA = ("likelihood_curves.py", "annealing_mnist.py", "deep_images.py", "main_job.py")

_WITH_PEERS = (
    "rbm.py",
    "ising.py",
    "langevin.py",
    "hmc.py",
    "gibbs_with_gradients.py",
    "deep_training.py",
    "cold_start.py",
    "elimination.py",
    "likelihood_curves.py",
)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="tiny sizes, no results written")
    parser.add_argument("--skip-peers", action="store_true", help="energax and the floor only")
    parser.add_argument("--only", nargs="+", choices=SCRIPTS, default=SCRIPTS, metavar="SCRIPT")
    arguments = parser.parse_args()
    folder = Path(__file__).parent
    failed = []
    for script in arguments.only:
        if script in _WITH_DATA and not os.environ.get("ENERGAX_DATA"):
            print(f"\n=== {script} is left out: ENERGAX_DATA names no folder with its data")
            continue
        command = [sys.executable, str(folder / script)]
        command += ["--quick"] if arguments.quick else []
        command += ["--skip-peers"] if arguments.skip_peers and script in _WITH_PEERS else []
        print(f"\n=== {script}", flush=True)
        if subprocess.run(command).returncode:
            failed.append(script)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
