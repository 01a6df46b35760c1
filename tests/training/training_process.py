"""A training run to be killed: `python training_process.py CHECKPOINT STEPS [ROWS.npy]`.

It prints `status step`, and returns the same run to a test that imports it.
"""

import sys

import numpy as np

import energax as ex

ROWS = np.random.default_rng(0).random((60, 12)) < 0.4


def run(checkpoint: str | None, steps: int, path: str | None = None) -> ex.Fitted:
    """Persistent chains, momentum and centring: all that a checkpoint has to carry."""
    rows = ROWS if path is None else ex.stream(path)
    return ex.fit(
        ex.RBM.init(ex.key(0), n_visible=12, n_hidden=6),
        rows,
        ex.PersistentContrastiveDivergence(n_steps=2, n_chains=20, centred=True),
        key=ex.key(1),
        learning_rate=0.05,
        momentum=0.5,
        steps=steps,
        batch_size=6,
        log_every=20,
        checkpoint=checkpoint,
        checkpoint_seconds=0.03,
    )


if __name__ == "__main__":
    fitted = run(sys.argv[1], int(sys.argv[2]), *sys.argv[3:])
    print(fitted.status, fitted.step)
