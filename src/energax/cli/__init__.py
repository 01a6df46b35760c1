"""The command line: parse, call, print."""

import sys


def main() -> None:
    """The `energax` command."""
    try:
        from energax.cli._app import run
    except ImportError as error:
        print(
            f'energax: the command line needs {error.name}: pip install "energax[cli]"',
            file=sys.stderr,
        )
        sys.exit(2)
    sys.exit(run(sys.argv[1:]))
