"""Whole sentences as states: a model of n-grams and a recurrent one, trained without Z.

    python examples/sentences.py                              # on a few sentences of its own
    python examples/sentences.py --data brown_tagged.txt.xz   # on a text, one sentence a line

The text may carry tags (`word/TAG`), may be compressed (.xz, .gz), and may be a file of the folder
that ENERGAX_DATA names. A sentence is an array of words, filled up with padding; rare words are one
unknown word. N-grams learn by pseudo-likelihood, and the network by noise-contrastive estimation
against sentences of independent words. On every tenth sentence, which no model has seen, two
questions are asked: how likely is each word given all others of its sentence, and which of two is
the sentence, itself or the one in which two words have changed places? Writes `sentences.json`.
"""

import argparse
import collections
import gzip
import json
import lzma
import os
import platform
import sys
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import logsumexp

import energax as ex
from energax.objectives import site_changes

TEXT = """
the dog sees the cat . the cat sees the dog . a bird sings in the tree .
the old man walks to the river . the old dog sleeps by the door .
a small cat sleeps on the chair . the bird flies over the river .
the woman reads a book by the river . the man reads the paper at the table .
a child plays with the dog . the child plays in the garden .
the cat sits under the table . the dog runs to the old man .
the woman walks to the garden . a man sits by the door .
the bird sits in the old tree . the small child sees a bird .
the woman sings to the child . the child reads a small book .
the dog runs over the garden . the cat runs under the chair .
a woman sits at the table . the old man sleeps in the chair .
the river runs by the garden . the tree stands by the river .
the small dog sees a bird in the tree . the man sings in the garden .
the cat sleeps by the river . the child runs to the door .
"""
LEAST, MOST = 4, 20  # words of a sentence


def read(path: str | None) -> list[list[str]]:
    """The sentences of a file, or the few above."""
    if path is None:
        return [(part + " .").split() for part in TEXT.split(" .") if part.strip()]
    file = Path(path)
    if not file.exists() and os.environ.get("ENERGAX_DATA"):
        file = Path(os.environ["ENERGAX_DATA"]) / path
    opened = {".xz": lzma.open, ".gz": gzip.open}.get(file.suffix, open)
    with opened(file, "rt", encoding="utf-8") as lines:
        return [[word.rsplit("/", 1)[0].lower() or word for word in line.split()] for line in lines]


def as_rows(sentences: list[list[str]], n_words: int) -> tuple[np.ndarray, list[str]]:
    """Sentences as rows of tokens, and the words these stand for; the last two are the unknown
    word and the padding."""
    kept = [sentence for sentence in sentences if LEAST <= len(sentence) <= MOST]
    counts = collections.Counter(word for sentence in kept for word in sentence)
    words = [word for word, _ in counts.most_common(n_words)] + ["<unknown>", ""]
    number = {word: i for i, word in enumerate(words)}
    rows = np.full((len(kept), max(map(len, kept))), len(words) - 1, np.int32)
    for row, sentence in zip(rows, kept, strict=True):
        row[: len(sentence)] = [number.get(word, len(words) - 2) for word in sentence]
    return rows, words


def nats_a_word(
    energy: ex.AbstractEnergy, rows: np.ndarray, padding: int, at_once: int
) -> tuple[float, float]:
    """Mean of -log p(word | all others of its sentence), and its standard error.

    Of every sentence one word, drawn once for all models.
    """
    places = np.random.default_rng(0).integers(0, (rows != padding).sum(1))

    @jax.jit
    def some(rows: jax.Array, places: jax.Array) -> jax.Array:
        changes = jax.vmap(lambda x, i: site_changes(energy, x, i))(rows, places)
        return logsumexp(-changes, axis=1)

    blocks = range(0, len(rows), at_once)
    found = [some(rows[i : i + at_once], places[i : i + at_once]) for i in blocks]
    each = np.concatenate([np.asarray(block) for block in found])
    return float(each.mean()), float(each.std() / np.sqrt(len(each)))


def swapped(rows: np.ndarray, padding: int) -> np.ndarray:
    """Every sentence with two different words of it in each other's place."""
    generator, made = np.random.default_rng(1), rows.copy()
    for row in made:
        n = int((row != padding).sum())
        pairs = [(i, j) for i in range(n) for j in range(i) if row[i] != row[j]]
        i, j = pairs[generator.integers(len(pairs))]
        row[i], row[j] = row[j], row[i]
    return made


def told_apart(energy: ex.AbstractEnergy, rows: np.ndarray, others: np.ndarray) -> float:
    """How often the sentence is likelier than the other one; a tie counts half."""
    ratio = np.asarray(jax.jit(jax.vmap(energy.log_ratio))(rows, others))
    tie = np.abs(ratio) < 1e-4  # what rounding leaves of nothing
    return float(np.mean(np.where(tie, 0.5, ratio > 0)))


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Read, train, and ask."""
    rows, words = as_rows(read(arguments.data), arguments.words)
    padding, space = len(words) - 1, ex.Categorical(rows.shape[1], len(words))
    held_out, train = rows[::10], np.delete(rows, np.s_[::10], 0)
    held_out = held_out[: arguments.held_out]
    unigram = ex.UnigramSequences.from_data(train, space, padding=padding)

    # Both start from the words' shares, and so have only what joins them to learn.
    grams = ex.NGramEnergy.init(rows.shape[1], len(words), order=arguments.order, padding=padding)
    shares = jnp.asarray(jax.nn.log_softmax(unigram.logits)).at[padding].set(0.0)
    grams = ex.NGramEnergy([shares, *grams.tables[1:]], rows.shape[1], len(words), padding=padding)
    key_network, key_grams, key_fit = jax.random.split(ex.key(arguments.seed), 3)
    network = ex.SequenceNetwork.init(key_network, space, width=arguments.width, padding=padding)
    recurrent = ex.freeze(unigram) * ex.NeuralEnergy(network, space)

    settings = {"learning_rate": arguments.rate, "batch_size": arguments.batch, "progress": True}
    models: dict[str, Any] = {"independent words": (unigram, 0.0)}
    began = time.perf_counter()
    fitted = ex.fit(
        grams,
        train,
        ex.PseudoLikelihood(n_sites=arguments.sites),
        key=key_grams,
        steps=arguments.steps,
        **settings,
    )
    print(f"{fitted.status}: {fitted.message}", file=sys.stderr)
    models[f"{arguments.order}-grams, pseudo-likelihood"] = (
        fitted.energy,
        time.perf_counter() - began,
    )
    began = time.perf_counter()
    fitted = ex.fit(
        recurrent,
        train,
        ex.NoiseContrastiveEstimation(unigram, ratio=arguments.ratio),
        key=key_fit,
        steps=arguments.network_steps,
        **settings | {"learning_rate": arguments.network_rate},
    )
    print(f"{fitted.status}: {fitted.message}", file=sys.stderr)
    models["recurrent network, noise-contrastive"] = (fitted.energy, time.perf_counter() - began)

    others, found = swapped(held_out, padding), []
    for name, (energy, seconds) in models.items():
        at_once = 100 if "grams" in name else 1
        few = held_out[: arguments.network_held_out] if "network" in name else held_out
        nats, error = nats_a_word(energy, few, padding, at_once)
        accuracy = told_apart(energy, held_out, others)
        found.append(
            {
                "model": name,
                "nats": nats,
                "error": error,
                "asked": len(few),
                "told_apart": accuracy,
                "seconds": seconds,
            }
        )
        print(
            f"{name:38} {nats:6.3f} +- {error:.3f} nats a word, {accuracy:6.1%} told apart,"
            f" {seconds:5.0f} s"
        )
    return {
        "script": "examples/sentences.py",
        "arguments": {k: v for k, v in vars(arguments).items() if k not in ("out", "data")},
        "text": "its own" if arguments.data is None else Path(arguments.data).name,
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()}",
        "python": platform.python_version(),
        "jax": jax.__version__,
        "sentences": {"train": len(train), "held_out": len(held_out)},
        "tokens": len(words),
        "rows": found,
    }


def table(numbers: dict[str, Any]) -> str:
    """The table that the documentation shows."""
    n = numbers["sentences"]
    lines = [
        "| model | nats a word, held out | sentence told from the one with two words swapped |"
        " training |",
        "| --- | --- | --- | --- |",
    ]
    lines += [
        f"| {row['model']} | {row['nats']:.2f} ± {row['error']:.2f} | {row['told_apart']:.1%} |"
        f" {row['seconds']:.0f} s |"
        for row in numbers["rows"]
    ]
    lines += [
        "",
        f"{n['train']:,} sentences of {LEAST} to {MOST} words to learn from and {n['held_out']:,}"
        f" held out, {numbers['tokens'] - 2:,} words; {numbers['machine']},"
        f" JAX {numbers['jax']}, float32.",
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", help="a text, one sentence a line; a few of its own if not given")
    parser.add_argument("--words", type=int, default=2000, help="the most frequent ones")
    parser.add_argument("--order", type=int, default=2, help="the longest run of words")
    parser.add_argument("--steps", type=int, default=1000, help="of training the n-grams")
    parser.add_argument("--sites", type=int, default=8, help="words looked at a row and step")
    parser.add_argument("--width", type=int, default=64, help="of the network")
    parser.add_argument("--network-steps", type=int, default=400)
    parser.add_argument("--ratio", type=int, default=5, help="noise sentences a sentence")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rate", type=float, default=0.01, help="learning rate of the n-grams")
    parser.add_argument("--network-rate", type=float, default=0.003)
    parser.add_argument("--held-out", type=int, default=3000, help="at most so many sentences")
    parser.add_argument("--network-held-out", type=int, default=300, help="asked of the network")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path())
    arguments = parser.parse_args()
    numbers = run(arguments)
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "sentences.json").write_text(json.dumps(numbers, indent=1) + "\n")


if __name__ == "__main__":
    main()
