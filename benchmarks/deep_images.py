"""A deep energy on images: long chains from noise, beside the data and mixtures of Gaussians.

    python benchmarks/deep_images.py            # both data sets, each for most of an hour
    python benchmarks/deep_images.py mnist

What is modelled are images blurred by normal noise: E(y) = |y|^2 / (2 noise^2) - f(y), f a residual
network. First the score alone is learned, by denoising score matching: cheap, and blind to how much
weight each kind of image has. Then the likelihood too, by persistent chains of underdamped Langevin
steps in a replay buffer. Images are shown with the noise taken off, x = y + noise^2 grad log p(y),
the mean of all images that could lie behind y.

The training length L is the mean life of a chain in the buffer, `n_steps / fresh` steps. Chains are
started from white noise and run for L, 3 L and 10 L steps; a small classifier, trained by this
script on the data's labels, says how sure it is of them and which class, and gives the features of
Frechet distances to held-out images. Beside them: images of the data blurred and with the noise
taken off by the model; draws of mixtures of Gaussians. Then how well E tells the data apart from
the other data set and from noise.

MNIST is read from ENERGAX_DATA (`mnist.npz`), Fashion-MNIST from ENERGAX_FASHION, a folder with
its four files, by default where Debian's package dataset-fashion-mnist puts them. Every stage is
kept in `--folder` and not done again: stop with Ctrl-C and run again. Sheets of images go there
and, with the numbers, to `benchmarks/results/`.
"""

import argparse
import dataclasses
import gzip
import hashlib
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array
from measuring import (
    CONSOLE,
    RESULTS,
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
SHAPE = (28, 28)
CHANNELS, DENSE = (16, 32), 256
BATCH, N_STEPS, SLOTS = 64, 10, 640
MULTIPLES = (1, 3, 10)
CHAINS = 500
MIXTURES = ((10, 50), (50, 50), (100, 100))
"""Of baselines: components with full covariances, and principal components that they live in."""
FEATURES = 64


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

    @property
    def length(self) -> int:
        """The training length, in steps of the kernel."""
        return round(N_STEPS / self.fresh)


SETTINGS = {
    "mnist": Settings(noise=0.4, fresh=0.01, score=1500, likelihood=9000),
    "fashion": Settings(noise=0.3, fresh=0.02, score=1500, likelihood=6000),
}
QUICK = Settings(noise=0.4, fresh=0.2, score=40, likelihood=40)
SURE = 0.9
FASHION = "/usr/share/datasets/fashion-mnist"


def load(name: str) -> dict[str, np.ndarray]:
    """Images (float32 in [0, 1]) and labels, to train on and held out."""
    if name == "mnist":
        with np.load(Path(os.environ["ENERGAX_DATA"]) / "mnist.npz") as file:
            found = {key: file[key] for key in file.files}
    else:
        folder = Path(os.environ.get("ENERGAX_FASHION", FASHION))
        found = {}
        for part, stem in (("train", "train"), ("test", "t10k")):
            images = gzip.decompress((folder / f"{stem}-images-idx3-ubyte.gz").read_bytes())
            labels = gzip.decompress((folder / f"{stem}-labels-idx1-ubyte.gz").read_bytes())
            found[f"{part}_images"] = np.frombuffer(images, np.uint8, offset=16).reshape(-1, *SHAPE)
            found[f"{part}_labels"] = np.frombuffer(labels, np.uint8, offset=8)
    for part in ("train", "test"):
        found[f"{part}_images"] = found[f"{part}_images"].astype(np.float32) / 255
        found[f"{part}_labels"] = found[f"{part}_labels"].astype(np.int32)
    return found


# --- the classifier -------------------------------------------------------------------------------


class Classifier(eqx.Module):
    """A residual network, a dense layer whose units are the features, and ten classes."""

    body: ex.ResidualNetwork
    readout: Array

    @classmethod
    def init(cls, key: Array) -> "Classifier":
        key_body, key_readout = jax.random.split(key)
        body = ex.ResidualNetwork.init(key_body, SHAPE, channels=CHANNELS, dense=FEATURES)
        return cls(body, 0.1 * jax.random.normal(key_readout, (FEATURES, 10)))

    def features(self, x: Array) -> Array:
        top: Any = self.body.dense
        return jax.nn.silu(self.body.positions(x).reshape(-1) @ top.matrix + top.bias)

    def logits(self, x: Array) -> Array:
        return self.features(x) @ self.readout


def train_classifier(data: dict[str, np.ndarray], n_steps: int) -> Classifier:
    """Trained on the labels, with some noise on the images, that it may be sure of clean ones."""
    images, labels = jnp.asarray(data["train_images"]), jnp.asarray(data["train_labels"])
    optimizer = optax.adamw(optax.cosine_decay_schedule(2e-3, n_steps), weight_decay=1e-3)
    parameters, rest = eqx.partition(Classifier.init(ex.key(0)), eqx.is_array)

    def loss(parameters: Any, x: Array, y: Array) -> Array:
        logits = jax.vmap(eqx.combine(parameters, rest).logits)(x)
        return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, y))

    def body(i: Array, carry: Any) -> Any:
        parameters, state = carry
        keys = jax.random.split(jax.random.fold_in(ex.key(1), i), 3)
        at = jax.random.randint(keys[0], (100,), 0, len(images))
        size = 0.2 * jax.random.uniform(keys[1], (100, 1, 1))
        x = images[at] + size * jax.random.normal(keys[2], (100, *SHAPE))
        gradient = jax.grad(loss)(parameters, x, labels[at])
        updates, state = optimizer.update(gradient, state, parameters)
        return optax.apply_updates(parameters, updates), state

    start = (parameters, optimizer.init(parameters))
    end = jax.jit(lambda carry: jax.lax.fori_loop(0, n_steps, body, carry))(start)
    return eqx.combine(end[0], rest)


class Judge:
    """What the classifier says of images."""

    def __init__(self, classifier: Classifier, data: dict[str, np.ndarray]):
        self._both = jax.jit(
            jax.vmap(lambda x: (jax.nn.softmax(classifier.logits(x)), classifier.features(x)))
        )
        chances, features = self._seen(data["test_images"])
        self.accuracy = float(np.mean(chances.argmax(1) == data["test_labels"]))
        self.held_out = features

    def _seen(self, x: Any) -> tuple[np.ndarray, np.ndarray]:
        chances, features = self._both(jnp.asarray(x))
        return np.asarray(chances), np.asarray(features, np.float64)

    def of(self, x: Any) -> dict[str, Any]:
        """The share it is sure of, how many of each class among them, and the Frechet distance."""
        chances, features = self._seen(x)
        sure = chances.max(1) >= SURE
        classes = np.bincount(chances.argmax(1)[sure], minlength=10)
        return {
            "sure": float(sure.mean()),
            "classes": classes.tolist(),
            "frechet": frechet(features, self.held_out),
        }


def frechet(a: np.ndarray, b: np.ndarray) -> float:
    """The squared Frechet distance of two normals with the moments of two sets of features."""
    cov_a, cov_b = np.cov(a.T), np.cov(b.T)
    roots = np.sqrt(np.maximum(np.linalg.eigvals(cov_a @ cov_b).real, 0.0))
    shift = a.mean(0) - b.mean(0)
    return float(shift @ shift + np.trace(cov_a) + np.trace(cov_b) - 2 * roots.sum())


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
    energy: ex.AbstractEnergy, n: int, settings: Settings, folder: Path
) -> dict[int, np.ndarray]:
    """States of chains from white noise after each multiple of the training length."""
    arrays = jax.tree.leaves(eqx.filter(energy, eqx.is_array))
    told = [repr((settings, n)).encode(), *(np.asarray(array).tobytes() for array in arrays)]
    path = folder / f"chains-{hashlib.sha256(b''.join(told)).hexdigest()[:12]}.npz"
    found: dict[int, np.ndarray] = {}
    if path.exists():
        with np.load(path) as file:
            found = {int(key): file[key] for key in file.files}
    y, done = np.asarray(jax.random.normal(ex.key(5), (n, *SHAPE))), 0
    for multiple in MULTIPLES:
        if multiple not in found:
            draws = ex.sample(
                energy,
                n,
                key=jax.random.fold_in(ex.key(6), multiple),
                kernel=kernel(settings.noise),
                chains=n,
                warmup=(multiple - done) * settings.length - 1,
                start=y,
            )
            found[multiple] = np.asarray(draws.x)[:, 0]
            aside = path.with_suffix(".aside.npz")
            np.savez(aside, **{str(key): value for key, value in found.items()})
            aside.replace(path)
        y, done = found[multiple], multiple
    return found


# --- what it is held against ----------------------------------------------------------------------


def mixtures(images: np.ndarray, n: int) -> dict[str, np.ndarray]:
    """Draws of mixtures of Gaussians in the leading principal components."""
    from sklearn.decomposition import PCA
    from sklearn.mixture import GaussianMixture

    rows = images[:20_000].reshape(-1, 784)
    found = {}
    for n_components, n_dimensions in MIXTURES:
        pca = PCA(n_dimensions, random_state=0).fit(rows)
        mixture = GaussianMixture(
            n_components, covariance_type="full", reg_covar=1e-4, max_iter=30, random_state=0
        ).fit(pca.transform(rows).astype(np.float64))
        drawn = pca.inverse_transform(mixture.sample(n)[0])
        name = f"mixture of {n_components}, {n_dimensions} dimensions"
        found[name] = np.clip(drawn, 0, 1).reshape(-1, *SHAPE).astype(np.float32)
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


def sheet(x: np.ndarray, path: Path) -> None:
    """Eight rows of ten images."""
    from PIL import Image

    some = np.zeros((80, *SHAPE), np.float32)
    some[: len(x[:80])] = x[:80]
    page = some.reshape(8, 10, *SHAPE).transpose(0, 2, 1, 3).reshape(8 * 28, 10 * 28)
    Image.fromarray((255 * page).round().astype(np.uint8)).resize((560, 448)).save(path)


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


def kept(path: Path, make: Callable[[], Any], like: Callable[[], Any]) -> Any:
    """What was made before and written to a file, or made now."""
    if path.exists():
        return eqx.tree_deserialise_leaves(path, like())
    made = make()
    aside = path.with_suffix(".aside")
    eqx.tree_serialise_leaves(aside, made)
    aside.replace(path)
    return made


def study(name: str, folder: Path, arguments: argparse.Namespace) -> None:
    """One data set, from the classifier to the bars."""
    quick = arguments.quick
    folder.mkdir(parents=True, exist_ok=True)
    busy = warn_if_busy()
    data = load(name)
    n_chains, tried = (20, 200) if quick else (CHAINS, 2000)
    settings = QUICK if quick else SETTINGS[name]
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
    states = long_chains(energy, n_chains, settings, folder)
    test = data["test_images"]
    blurred = test[:n_chains] + noise * jax.random.normal(ex.key(7), (n_chains, *SHAPE))
    images = {f"chains, {m} L": np.asarray(denoised(energy, y, noise)) for m, y in states.items()}
    images |= {"data, blurred and denoised": np.asarray(denoised(energy, blurred, noise))}
    images |= {"data to train on": data["train_images"][:n_chains]}
    images |= mixtures(data["train_images"], n_chains)
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
    at = folder if quick else RESULTS
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
            "chains": n_chains,
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
