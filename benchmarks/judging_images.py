"""What deep_images.py holds images against: data sets, a classifier, mixtures of Gaussians."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array

import energax as ex

SHAPE = (28, 28)
CHANNELS = (16, 32)
FEATURES = 64
SURE = 0.9
MIXTURES = ((10, 50), (50, 50), (100, 100))
"""Of baselines: components with full covariances, and principal components that they live in."""
FASHION = "/usr/share/datasets/fashion-mnist"
"""Where Debian's package dataset-fashion-mnist puts its files."""


def load(name: str) -> dict[str, np.ndarray]:
    """Images (float32 in [0, 1]) and labels, to train on and held out."""
    if name == "mnist":
        with np.load(Path(os.environ["ENERGAX_DATA"]) / "mnist.npz") as file:
            found = {key: file[key] for key in file.files}
    else:
        folder = Path(os.environ.get("ENERGAX_FASHION", FASHION))
        found = {
            f"{part}_{what}": ex.read(folder / f"{stem}-{what}-idx{n_axes}-ubyte.gz").rows
            for part, stem in (("train", "train"), ("test", "t10k"))
            for what, n_axes in (("images", 3), ("labels", 1))
        }
    for part in ("train", "test"):
        found[f"{part}_images"] = found[f"{part}_images"].astype(np.float32) / 255
        found[f"{part}_labels"] = found[f"{part}_labels"].astype(np.int32)
    return found


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


def sheet(x: np.ndarray, path: Path) -> None:
    """Eight rows of ten images."""
    from PIL import Image

    some = np.zeros((80, *SHAPE), np.float32)
    some[: len(x[:80])] = x[:80]
    page = some.reshape(8, 10, *SHAPE).transpose(0, 2, 1, 3).reshape(8 * 28, 10 * 28)
    Image.fromarray((255 * page).round().astype(np.uint8)).resize((560, 448)).save(path)


def kept(path: Path, make: Callable[[], Any], like: Callable[[], Any]) -> Any:
    """What was made before and written to a file, or made now."""
    if path.exists():
        return eqx.tree_deserialise_leaves(path, like())
    made = make()
    aside = path.with_suffix(".aside")
    eqx.tree_serialise_leaves(aside, made)
    aside.replace(path)
    return made
