"""Every benchmark, one after another.

    python benchmarks/run.py            # half an hour, on a machine with nothing else to do
    python benchmarks/run.py --quick    # minutes: only to see that they run; writes no results

Exit status: 1 if a benchmark could not be run. A number beyond its bar is printed, not an error.
"""

import argparse
import subprocess
import sys
from pathlib import Path

SCRIPTS = (
    "import_time.py",
    "random_rate.py",
    "rbm.py",
    "enumeration.py",
    "annealing_precision.py",
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
        command = [sys.executable, str(folder / script)]
        command += ["--quick"] if arguments.quick else []
        command += ["--skip-peers"] if arguments.skip_peers and script == "rbm.py" else []
        print(f"\n=== {script}", flush=True)
        if subprocess.run(command).returncode:
            failed.append(script)
    if failed:
        sys.exit(f"could not be run: {', '.join(failed)}")


if __name__ == "__main__":
    main()
