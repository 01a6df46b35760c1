"""The commands together, and how they end.

0: done. 1: training diverged, or memory ran out. 2: bad input. 130: interrupted.
"""

import sys
from typing import Any

import jax
import typer

from energax import __version__
from energax.cli._common import console
from energax.cli._demo import demo
from energax.cli._fit import fit
from energax.cli._info import info
from energax.cli._logz import logz
from energax.cli._report import report
from energax.cli._sample import sample
from energax.cli._score import score

# Typer carries its own copy of click, or needs the package: which, depends on its version.
_ClickException: Any = next(c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException")

app = typer.Typer(
    name="energax",
    help="Energy-based models: train, sample, score, find log Z, report.",
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (fit, sample, score, logz, report, info, demo):
    app.command()(command)


def _version(value: bool) -> bool:
    if value:
        typer.echo(f"energax {__version__}")
        raise typer.Exit
    return value


@app.callback()
def _options(
    version: bool = typer.Option(
        False, "--version", help="Print the version and exit.", callback=_version, is_eager=True
    ),
) -> None:
    """Energy-based models: train, sample, score, find log Z, report."""


def run(arguments: list[str]) -> int:
    """Run a command line and return its exit code. Bad input is one line on standard error."""
    try:
        code = app(arguments or ["--help"], standalone_mode=False)
    except typer.Exit as end:
        code = end.exit_code
    except (KeyboardInterrupt, typer.Abort):
        code = 130
    except _ClickException as error:
        return _refuse(error.format_message())
    except (ValueError, OSError, ImportError) as error:
        return _refuse(str(error))
    except (MemoryError, jax.errors.JaxRuntimeError) as error:
        words = str(error) or "out of memory"
        return _refuse(f"the machine gave up: {words[:300]}", code=1)
    if code == 130:
        console.print("energax: interrupted", style="yellow", markup=False)
    return code if isinstance(code, int) else 0


def _refuse(message: str, code: int = 2) -> int:
    line = " ".join(message.split())
    print(f"energax: error: {line}", file=sys.stderr)
    return code
