"""`energax demo`."""

from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from energax.cli import _fit
from energax.cli._common import Overwrite, Quiet, Seed, check_seed, say
from energax.cli._report import make_report
from energax.cli._rows import Reading
from energax.io._aside import written_aside
from energax.report._write import check_extra

_OWN = Path("energax-demo")
"""The folder whose files are the demo's, to replace unasked."""

_N_TRAIN, _BATCH_SIZE = 1617, 100


def demo(
    out: Annotated[Path, typer.Option(help="The folder to write into.")] = _OWN,
    epochs: Annotated[float, typer.Option(help="Passes over the 1,617 training rows.")] = 500.0,
    overwrite: Overwrite = False,
    seed: Seed = 0,
    quiet: Quiet = False,
) -> int:
    """The main job on real images: train an RBM on handwritten digits and write its report.

    The digits are scikit-learn's, 8 x 8 pixels, binarised. The machine is small enough (16
    hidden units) for log Z to be found exactly as well as by annealing.
    """
    check_seed(seed)
    _fit.n_steps(epochs, _N_TRAIN, _BATCH_SIZE)
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ImportError(
            'the demo\'s digits come with scikit-learn: pip install "energax[demo]"'
        ) from error
    check_extra()
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out} is a file; name a folder")
    data, model, page = out / "digits.npz", out / "digits-rbm.energax", out / "report.html"
    there = [path for path in (data, model, Path(f"{model}.checkpoint"), page) if path.exists()]
    if there and out != _OWN and not overwrite:
        raise ValueError(f"{there[0]} exists: add --overwrite to replace it, or name another --out")
    out.mkdir(parents=True, exist_ok=True)
    grey, labels = load_digits(return_X_y=True)
    rows = (np.asarray(grey) > 7).astype(np.uint8)
    with written_aside(data) as file:
        np.savez_compressed(file, X=rows, y=labels)
    code = _fit.fit(
        data,
        hidden=16,
        epochs=epochs,
        batch_size=_BATCH_SIZE,
        learning_rate=0.1,
        momentum=0.5,
        out=model,
        resume=False,
        overwrite=True,
        seed=seed,
        quiet=quiet,
    )
    if code:
        return code
    make_report(
        model,
        data,
        page,
        Reading(),
        chains=100,
        sample_steps=1000,
        seed=seed,
        quiet=quiet,
    )
    if not quiet:
        say(f"open {page.resolve()} in a browser")
        say("your own file: energax fit FILE --hidden 500, then energax report")
    return 0
