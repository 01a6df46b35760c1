"""`energax sample`."""

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

import energax as ex
from energax.cli._common import (
    Json,
    ModelFile,
    Overwrite,
    Quiet,
    Seed,
    as_json_text,
    check_at_least,
    check_memory,
    check_not_input,
    check_output,
    check_seed,
    console,
    load_model,
    n_entries,
    say,
    show_json,
)
from energax.cli._starts import ABOUT, ENERGY, part_names, read_starts, worst
from energax.io._aside import written_aside

_KERNELS = {
    "block-gibbs": ex.BlockGibbs,
    "discrete-langevin": ex.DiscreteLangevin,
    "gibbs": ex.Gibbs,
    "gibbs-with-gradients": ex.GibbsWithGradients,
    "hmc": ex.HMC,
    "mala": ex.MALA,
    "nuts": ex.NUTS,
    "packed-gibbs": ex.PackedGibbs,
    "random-walk": ex.RandomWalkMetropolis,
    "swendsen-wang": ex.SwendsenWang,
    "wolff": ex.Wolff,
}


def sample(
    model: ModelFile,
    n: Annotated[int, typer.Option("-n", help="Draws in all.")] = 2000,
    chains: Annotated[
        int, typer.Option(help="Chains side by side: few, so that each is long enough to judge.")
    ] = 4,
    warmup: Annotated[int, typer.Option(help="Steps thrown away first.")] = 1000,
    thin: Annotated[int, typer.Option(help="Steps from one kept draw to the next.")] = 10,
    kernel: Annotated[
        str | None,
        typer.Option(
            help=f"One of {', '.join(_KERNELS)} (default: what suits the model)."
            " Replica exchange and Langevin dynamics: in Python."
        ),
    ] = None,
    start: Annotated[
        Path | None,
        typer.Option(
            help="Where chains start: an .npz of samples, for where its chains ended, or rows of"
            " data (default: base draws)."
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="An .npz file (default: MODEL-samples.npz).")
    ] = None,
    overwrite: Overwrite = False,
    seed: Seed = 0,
    as_json: Json = False,
    quiet: Quiet = False,
) -> int:
    """Draw from a model and say whether the draws can be believed.

    The file holds x with axes (chain, draw, ...), the draws' energies, and in `about` a line of
    JSON on where they came from and whether they converged. A long run that Ctrl-C stops leaves a
    file of the draws it has; `--start` goes on from it.
    """
    check_seed(seed)
    path = Path(f"{model.stem}-samples.npz") if out is None else out
    check_output(path, overwrite=overwrite, suffixes=(".npz",))
    check_at_least(1, n=n, chains=chains, thin=thin)
    check_at_least(0, warmup=warmup)
    if kernel is not None and kernel not in _KERNELS:
        raise ValueError(f"--kernel must be one of {', '.join(_KERNELS)}, got {kernel!r}")
    if start is not None:
        check_not_input(path, start)
    energy, metadata = load_model(model)
    names = part_names(energy.space)
    check_memory(n * n_entries(energy), f"{n} draws")
    draws = ex.sample(
        energy,
        n,
        key=ex.key(seed),
        kernel=None if kernel is None else _KERNELS[kernel](),
        chains=chains,
        warmup=warmup,
        thin=thin,
        start=None if start is None else read_starts(start, energy, metadata, model),
        progress=not quiet and console.is_terminal,
    )
    x = draws.x if isinstance(draws.x, dict) else {"x": draws.x}
    arrays: dict[str, Any] = {name: np.asarray(x[name]) for name in names}
    known = not draws.independent and draws.energy.shape[1] >= 4
    about = {
        "n": draws.n,
        "stopped": draws.stopped,
        "method": draws.method,
        "converged": draws.converged,
        "problems": draws.problems,
        "rhat": worst(draws.rhat, np.max) if known else None,
        "ess": worst(draws.ess, np.min) if known else None,
    }
    settings = {
        "model": model.name,
        "start": None if start is None else start.name,
        "seed": seed,
        "chains": draws.n_chains,
        "warmup": warmup,
        "thin": thin,
        "energax": ex.__version__,
    }
    arrays[ENERGY] = np.asarray(draws.energy)
    arrays[ABOUT] = np.array(as_json_text({**about, **settings}))
    with written_aside(path) as file:
        np.savez_compressed(file, **arrays)
    result = {"samples": path, **about, "mean_energy": float(np.mean(draws.energy))}
    if as_json:
        show_json(result)
    elif not quiet:
        style = "green" if draws.converged else "yellow"
        say(draws.summary, style=style)
        say(f"written to {path}")
    return 130 if draws.stopped else 0
