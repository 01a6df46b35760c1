"""`energax demo`."""

from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from energax.cli import _fit
from energax.cli._common import Quiet, Seed, check_seed, say, write_aside
from energax.cli._report import make_report


def demo(
    out: Annotated[Path, typer.Option(help="The folder to write into.")] = Path("energax-demo"),
    epochs: Annotated[float, typer.Option(help="Passes over the 1,617 training rows.")] = 500.0,
    seed: Seed = 0,
    quiet: Quiet = False,
) -> int:
    """The main job on real images: train an RBM on handwritten digits and write its report.

    The digits are scikit-learn's, 8 x 8 pixels, binarised. The machine is small enough (16
    hidden units) for log Z to be found exactly as well as by annealing.
    """
    check_seed(seed)
    _fit.check_epochs(epochs)
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ImportError(
            'the demo\'s digits come with scikit-learn: pip install "energax[demo]"'
        ) from error
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out} is a file; name a folder")
    out.mkdir(parents=True, exist_ok=True)
    data, model, page = out / "digits.npz", out / "digits-rbm.energax", out / "report.html"
    grey, labels = load_digits(return_X_y=True)
    rows = (np.asarray(grey) > 7).astype(np.uint8)
    write_aside(data, lambda aside: np.savez_compressed(aside, X=rows, y=labels))
    code = _fit.fit(
        data,
        hidden=16,
        epochs=epochs,
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
        array=None,
        test_array=None,
        chains=100,
        temperatures=5000,
        sample_steps=1000,
        seed=seed,
        quiet=quiet,
    )
    if not quiet:
        say(f"open {page.resolve()} in a browser")
        say("your own file: energax fit FILE --hidden 500, then energax report")
    return 0
