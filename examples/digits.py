"""Handwritten digits from start to end: train an RBM, draw from it, find log Z.

    python examples/digits.py

The digits are scikit-learn's (8 x 8 pixels). The machine is small, so log Z is found twice: by
listing the states of its hidden layer, and by annealing, as it would be for a large one.
"""

import argparse

import jax
from sklearn.datasets import load_digits

import energax as ex
from energax.io import binarise, split


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--hidden", type=int, default=16, help="hidden units")
    parser.add_argument("--epochs", type=float, default=100.0, help="passes over the rows")
    parser.add_argument("--draws", type=int, default=4000, help="draws in all")
    parser.add_argument("--temperatures", type=int, default=2000, help="of annealing")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    key_split, key_init, key_fit, key_draw, key_z = jax.random.split(ex.key(arguments.seed), 5)

    grey, _ = load_digits(return_X_y=True)
    train, test = split(binarise(grey, low=0, high=16), [0.9, 0.1], key=key_split)

    base = ex.Bernoulli.from_data(train)
    rbm = ex.RBM.init(key_init, n_visible=64, n_hidden=arguments.hidden, base=base)
    objective = ex.PersistentContrastiveDivergence(n_steps=5, centred=True)
    run = ex.fit(
        rbm,
        train,
        objective,
        key=key_fit,
        learning_rate=0.05,
        momentum=0.5,
        epochs=arguments.epochs,
        validation=test,
    )
    print(f"{run.status}: {run.message}")

    draws = ex.sample(
        run.energy, arguments.draws, key=key_draw, chains=100, warmup=1000, thin=10, start=train
    )
    print(draws.summary)

    annealed = ex.log_partition(
        run.energy,
        key=key_z,
        method="annealing",
        base=base,
        n_temperatures=arguments.temperatures,
    )
    best = ex.log_partition(run.energy, key=key_z)
    print(annealed.summary)
    print(best.summary)
    for name, rows in (("training", train), ("test", test)):
        score = ex.log_likelihood(run.energy, rows, best)
        print(f"{name} rows: {score.mean:.2f} nats a row, +- {score.row_error:.2f} from the rows")
    print(
        f"each pixel by itself: {float(jax.vmap(base.log_prob)(test).mean()):.2f} nats a test row"
    )


if __name__ == "__main__":
    main()
