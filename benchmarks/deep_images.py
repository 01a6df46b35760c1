"""A deep energy on images: long chains from noise, beside the data and mixtures of Gaussians.

    python benchmarks/deep_images.py            # both data sets, each for most of an hour
    python benchmarks/deep_images.py mnist

What is modelled are images blurred by normal noise: E(y) = |y|^2 / (2 noise^2) - f(y), f a residual
network. First the score alone is learned, by denoising score matching: cheap, and blind to how much
weight each kind of image has. Then the likelihood too, by persistent chains of underdamped Langevin
steps in a replay buffer. Images are shown with the noise taken off, x = y + noise^2 grad log p(y),
the mean of all images that could lie behind y.

The training length L is the mean life of a chain in the buffer, `n_steps / fresh` steps. Chains are
started from white noise and run for L, 3 L and 10 L steps by `ex.sample`. A small classifier,
trained by this script on the data's labels, says how sure it is of them and which class, and gives
the features of Frechet distances to held-out images. Beside them: images of the data blurred and
with the noise taken off by the model; draws of mixtures of Gaussians. Then how well E tells the
data apart from the other data set and from noise.

MNIST is read from ENERGAX_DATA (`mnist.npz`), Fashion-MNIST from ENERGAX_FASHION, a folder with
its four files, by default where Debian's package dataset-fashion-mnist puts them. The long stages
are kept in `--folder` and not done again: stop with Ctrl-C and run again. Numbers go to
`benchmarks/results/`, sheets of images to `docs/how_to/figures/`.
"""

import argparse
import dataclasses
import hashlib
import sys
import time
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array
from judging_images import (
    CHANNELS,
    SHAPE,
    Classifier,
    Judge,
    kept,
    load,
    mixtures,
    sheet,
    train_classifier,
)
from measuring import (
    CONSOLE,
    Bar,
    judge,
    parser,
    save,
    use_cores,
    versions,
    warn_if_busy,
)
from rich.table import Table

import energax as ex

THREADS = 2
FIGURES = Path(__file__).parents[1] / "docs" / "how_to" / "figures"
DENSE = 256
"""Units of the energy's network that see all positions."""
BATCH, N_STEPS, SLOTS = 64, 10, 640
MULTIPLES = (1, 3, 10)


@dataclasses.dataclass(frozen=True)
class Settings:
    """What differs between data sets."""

    noise: float
    fresh: float
    """The share of chains started anew at each step."""
    score: int
    """Steps of training by the score alone."""
    likelihood: int
    """Steps by both."""
    chains: int = 500
    """Started from noise when the training is over."""

    @property
    def length(self) -> int:
        """The training length, in steps of the kernel."""
        return round(N_STEPS / self.fresh)


SETTINGS = {
    "mnist": Settings(noise=0.4, fresh=0.01, score=1500, likelihood=12000),
    "fashion": Settings(noise=0.4, fresh=0.005, score=1500, likelihood=12000, chains=300),
}
QUICK = Settings(noise=0.4, fresh=0.2, score=40, likelihood=40, chains=20)


# --- the energy -----------------------------------------------------------------------------------


class Scaled(eqx.Module):
    """A network in units in which its gradient is an image: f = network(2 y) / noise^2."""

    network: ex.ResidualNetwork
    noise: float = eqx.field(static=True)

    def __call__(self, y: Array) -> Array:
        return self.network(2 * y) / self.noise**2


def start(noise: float) -> ex.AbstractEnergy:
    """The energy before training."""
    network = ex.ResidualNetwork.init(ex.key(2), SHAPE, channels=CHANNELS, dense=DENSE)
    bowl = ex.Gaussian(jnp.zeros(SHAPE), jnp.full(SHAPE, noise))
    return ex.NeuralEnergy(Scaled(network, noise), ex.Real(SHAPE)) * ex.freeze(bowl)


def kernel(noise: float) -> ex.UnderdampedLangevin:
    return ex.UnderdampedLangevin(0.9 * noise, friction=0.3 / noise)


def train(images: np.ndarray, folder: Path, settings: Settings) -> tuple[Any, dict[str, Any]]:
    """Both stages; the averaged energy of the second, and how it went."""
    noise = settings.noise
    score = ex.DenoisingScoreMatching(noise)
    chains = ex.ReplayBuffer(
        size=SLOTS,
        n_chains=BATCH,
        n_steps=N_STEPS,
        fresh=settings.fresh,
        kernel=kernel(noise),
        data_noise=noise,
    )
    n_first, n_second = settings.score, settings.likelihood
    first = ex.fit(
        start(noise),
        images,
        score,
        key=ex.key(3),
        steps=n_first,
        learning_rate=optax.cosine_decay_schedule(2e-3, n_first, 0.1),
        batch_size=BATCH,
        checkpoint=folder / "score.checkpoint",
        progress=True,
    )
    _check(first)
    rates = optax.warmup_cosine_decay_schedule(0.0, 3e-4, n_second // 50, n_second, 1e-5)
    second = ex.fit(
        first.energy,
        images,
        ex.CombinedObjective([chains, score], [1.0, 0.3]),
        key=ex.key(4),
        steps=n_second,
        optimizer=optax.adam(rates, b1=0.5, b2=0.99),
        batch_size=BATCH,
        ema=0.999,
        checkpoint=folder / "likelihood.checkpoint",
        progress=True,
    )
    _check(second)
    last = second.history[-1]
    return second.ema, {
        "seconds": {
            "score": float(first.history[-1]["seconds"]),
            "likelihood": float(last["seconds"]),
        },
        "last": {name: float(value) for name, value in last.items()},
        "alarms": [alarm["text"] for run in (first, second) for alarm in run.alarms],
    }


def _check(run: ex.Fitted) -> None:
    if run.status == "interrupted":
        CONSOLE.print(run.message)
        sys.exit(130)
    if run.status != "finished":
        raise RuntimeError(run.message)


@eqx.filter_jit
def denoised(energy: ex.AbstractEnergy, y: Array, noise: float) -> Array:
    """The mean of the images that could lie behind y."""
    return jnp.clip(y + noise**2 * jax.vmap(energy.score)(y), 0.0, 1.0)


def long_chains(
    energy: ex.AbstractEnergy, settings: Settings, folder: Path
) -> dict[int, np.ndarray]:
    """States of chains from white noise after each multiple of the training length."""
    arrays = jax.tree.leaves(eqx.filter(energy, eqx.is_array))
    told = [repr(settings).encode(), *(np.asarray(array).tobytes() for array in arrays)]
    path = folder / f"chains-{hashlib.sha256(b''.join(told)).hexdigest()[:12]}.npz"
    if path.exists():
        with np.load(path) as file:
            return {int(key): file[key] for key in file.files}
    n = settings.chains
    draws = ex.sample(
        energy,
        n * MULTIPLES[-1],
        key=ex.key(6),
        kernel=kernel(settings.noise),
        chains=n,
        warmup=0,
        thin=settings.length,
        start=jax.random.normal(ex.key(5), (n, *SHAPE)),
        progress=True,
    )
    if draws.stopped:
        sys.exit(130)
    found = {multiple: np.asarray(draws.x[:, multiple - 1]) for multiple in MULTIPLES}
    aside = path.with_suffix(".aside.npz")
    np.savez(aside, **{str(key): value for key, value in found.items()})
    aside.replace(path)
    return found


def told_apart(
    energy: ex.AbstractEnergy, inside: np.ndarray, outside: np.ndarray, noise: float, key: Array
) -> float:
    """AUROC of the energy: the chance that an image from outside has the higher one.

    Of images blurred as those of the model are: what it knows is what lies there.
    """
    from sklearn.metrics import roc_auc_score

    images = jnp.concatenate([jnp.asarray(inside), jnp.asarray(outside)])
    blurred = images + noise * jax.random.normal(key, images.shape)
    energies = np.asarray(jax.jit(jax.vmap(energy.energy))(blurred))
    return float(roc_auc_score(np.arange(len(images)) >= len(inside), energies))


def report(seen: dict[str, dict[str, Any]]) -> None:
    table = Table(title="images, as a classifier sees them")
    for column in ("of", "sure", "classes among those", "Frechet"):
        table.add_column(column)
    for name, row in seen.items():
        counts = " ".join(map(str, row["classes"]))
        table.add_row(name, f"{row['sure']:.3f}", counts, f"{row['frechet']:.1f}")
    CONSOLE.print(table)


def bars(
    name: str, seen: dict[str, dict[str, Any]], apart: dict[str, float], seconds: float
) -> list[Bar]:
    """What is asked; of clothes not that digits, which are simpler, have the higher energy."""
    first, last = (seen[f"chains, {m} L"] for m in (MULTIPLES[0], MULTIPLES[-1]))
    found = [
        Bar("minutes of training", seconds / 60, 45.0),
        Bar("share of chains at 10 L that the classifier is sure of", last["sure"], 0.6, False),
        Bar("classes among them", sum(n > 0 for n in last["classes"]), 10, False),
        Bar("Frechet distance at 10 L over that at L", last["frechet"] / first["frechet"], 1.5),
        *(
            Bar(f"Frechet distance at 10 L over that of a {what}", last["frechet"] / d, 1.0)
            for what, d in ((w, r["frechet"]) for w, r in seen.items() if w.startswith("mixture"))
        ),
        Bar("AUROC against noise", apart["noise"], 0.99, False),
    ]
    if name == "mnist":
        found.append(Bar("AUROC against Fashion-MNIST", apart["other"], 0.95, False))
    return found


def study(name: str, folder: Path, arguments: argparse.Namespace) -> None:
    """One data set, from the classifier to the bars."""
    quick = arguments.quick
    folder.mkdir(parents=True, exist_ok=True)
    busy = warn_if_busy()
    data = load(name)
    settings = QUICK if quick else SETTINGS[name]
    n_chains, tried = settings.chains, 200 if quick else 2000
    noise = settings.noise

    classifier = kept(
        folder / "classifier.eqx",
        lambda: train_classifier(data, 50 if quick else 5000),
        lambda: Classifier.init(ex.key(0)),
    )
    judging = Judge(classifier, data)
    energy, training = train(data["train_images"], folder, settings)
    seconds = sum(training["seconds"].values())

    began = time.monotonic()
    states = long_chains(energy, settings, folder)
    test = data["test_images"]
    blurred = test[:n_chains] + noise * jax.random.normal(ex.key(7), (n_chains, *SHAPE))
    images = {f"chains, {m} L": np.asarray(denoised(energy, y, noise)) for m, y in states.items()}
    images |= {"data, blurred and denoised": np.asarray(denoised(energy, blurred, noise))}
    images |= {"data to train on": data["train_images"][:n_chains]}
    images |= mixtures(data["train_images"][: 500 if quick else None], n_chains)
    seen = {what: judging.of(x) for what, x in images.items()}
    other = load("fashion" if name == "mnist" else "mnist")["test_images"]
    white = np.random.default_rng(0).random((tried, *SHAPE), np.float32)
    apart = {
        "other": told_apart(energy, test[:tried], other[:tried], noise, ex.key(8)),
        "noise": told_apart(energy, test[:tried], white, noise, ex.key(9)),
    }
    report(seen)
    found = bars(name, seen, apart, seconds)
    verdicts = judge(found)
    at = folder if quick else FIGURES
    for what in (f"chains, {MULTIPLES[0]} L", f"chains, {MULTIPLES[-1]} L"):
        sheet(images[what], at / f"deep_images_{name}_{what.split()[1]}L.png")
    results = {
        "data": name,
        "settings": {
            **dataclasses.asdict(settings),
            "channels": CHANNELS,
            "dense": DENSE,
            "batch": BATCH,
            "training length": settings.length,
        },
        "training": training,
        "classifier accuracy": judging.accuracy,
        "images": seen,
        "auroc": apart,
        "seconds of testing": time.monotonic() - began,
        "bars": verdicts,
        "busy": busy,
        "versions": versions("energax", "jax", "jaxlib", "optax", "scikit-learn", "numpy"),
    }
    save(arguments, f"deep_images_{name}", results)


def main() -> None:
    options = parser(__doc__, "deep_images_DATA")
    options.add_argument("data", nargs="*", help="mnist, fashion (both)")
    options.add_argument("--folder", type=Path, help="of stages (~/.cache/energax-bench/deep)")
    arguments = options.parse_args()
    names = arguments.data or ["mnist", "fashion"]
    if unknown := set(names) - {"mnist", "fashion"}:
        options.error(f"data must be mnist or fashion, got {', '.join(sorted(unknown))}")
    use_cores(THREADS)
    home = arguments.folder or Path.home() / ".cache" / "energax-bench" / "deep"
    for name in names:
        study(name, home / (f"{name}-quick" if arguments.quick else name), arguments)


if __name__ == "__main__":
    main()
