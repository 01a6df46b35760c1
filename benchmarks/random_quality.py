"""Statistical tests of the generator: binary streams of its words, fed to dieharder.

    python benchmarks/random_quality.py --all                   # every stream, every test: hours
    python benchmarks/random_quality.py --stream fold_in --quick
    python benchmarks/random_quality.py --stream long --tests 0 2 15

dieharder is a Debian package: `apt-get install dieharder`. TestU01 has no package in Debian's main
archive. Each test of `dieharder -a` runs as its own process, the stream going on from one to the
next; only the sums test is left out, which dieharder itself lists as "Do Not Use" (it lists
opso, oqso and dna as "Suspect"; these run, and the `control` stream shows how they treat another
generator). Of good results one in a hundred is WEAK (p < 0.005 or p > 0.995): each such test runs
again on a stream from another seed with twice the samples, adding more until it is clear
(`-Y 1`), or three times as it is if it gives one p-value only. FAILED (p < 1e-6) is a failure of
the generator.

The table goes to the terminal and to `benchmarks/results/random_quality.json`, which is brought up
to date after each test, so a run that is stopped keeps what it has. Exit status: 0, 1 if a test
FAILED, 2 if dieharder is missing.
"""

import argparse
import contextlib
import datetime
import fcntl
import functools
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from rich.console import Console
from rich.table import Table

from energax.random import GENERATOR_VERSION, _generator
from energax.random import key as make_key

RESULTS = Path(__file__).parent / "results" / "random_quality.json"
BLOCK = 2**22  # words made at a time
FAN = 256  # keys that are interleaved in `split`
CHAINS, LINKS = 2048, 512  # of one block of `split_tree`
F_SETPIPE_SZ = 1031  # of Linux's fcntl; the wider pipe saves half of the context switches


# The streams: each yields arrays of uint32 without end.


@functools.partial(jax.jit, static_argnames="n")
def _run_of_words(key_data: jax.Array, start: jax.Array, n: int) -> jax.Array:
    return _generator._words(key_data[0], key_data[1], start + lax.iota(jnp.uint32, n))


def _long(key: jax.Array) -> Iterator[jax.Array]:
    """One key, its counter running through all 2^32 values; then the next key."""
    for lap in range(2**32):
        data = jax.random.key_data(jax.random.fold_in(key, lap))
        for start in range(0, 2**32, BLOCK):
            yield _run_of_words(data, jnp.uint32(start), BLOCK)


def _split(key: jax.Array) -> Iterator[jax.Array]:
    """Word i of each of 256 keys of one split in turn, then word i + 1."""
    data = jax.random.key_data(jax.random.split(key, FAN))

    @jax.jit
    def block(start):
        counter = start + lax.iota(jnp.uint32, BLOCK // FAN)[:, None]
        return _generator._words(data[None, :, 0], data[None, :, 1], counter).reshape(-1)

    for start in range(0, 2**32, BLOCK // FAN):
        yield block(jnp.uint32(start))


def _fold_in(key: jax.Array) -> Iterator[jax.Array]:
    """The first two words of fold_in(key, i), for i = 0, 1, 2, ..."""

    @jax.jit
    def block(key, start):
        index = start + lax.iota(jnp.uint32, BLOCK // 2)
        draw = jax.vmap(lambda i: jax.random.bits(jax.random.fold_in(key, i), (2,)))
        return draw(index).reshape(-1)

    for lap in range(2**32):
        lap_key = jax.random.fold_in(key, lap)
        for start in range(0, 2**32, BLOCK // 2):
            yield block(lap_key, jnp.uint32(start))


def _packed(key: jax.Array, n_bits: int) -> Iterator[jax.Array]:
    """The lowest `n_bits` of each word of a long stream, side by side."""
    per_word = 32 // n_bits
    n_words = max(BLOCK // 4, 2**20)

    @jax.jit
    def block(data, start):
        # Added up a field at a time, so the words are never all in memory.
        field = start + lax.iota(jnp.uint32, n_words) * jnp.uint32(per_word)
        packed = jnp.zeros((n_words,), jnp.uint32)
        for i in range(per_word):
            word = _generator._words(data[0], data[1], field + jnp.uint32(i))
            low = word & jnp.uint32(2**n_bits - 1)
            packed = packed | (low << jnp.uint32(i * n_bits))
        return packed

    for lap in range(2**32):
        data = jax.random.key_data(jax.random.fold_in(key, lap))
        for start in range(0, 2**32, n_words * per_word):
            yield block(data, jnp.uint32(start))


def _low_bits(key: jax.Array) -> Iterator[jax.Array]:
    """The lowest 8 bits of each word, packed."""
    return _packed(key, 8)


def _low_bit(key: jax.Array) -> Iterator[jax.Array]:
    """The lowest bit of each word, packed."""
    return _packed(key, 1)


def _seeds(key: jax.Array) -> Iterator[jax.Array]:
    """The first two words of the keys of seeds 0, 1, 2, ... (from a far start for another seed)."""

    @jax.jit
    def block(start):
        seeds = start + lax.iota(jnp.int64, BLOCK // 2)
        draw = jax.vmap(lambda seed: jax.random.bits(make_key(seed), (2,), jnp.uint32))
        return draw(seeds).reshape(-1)

    first = _SEEDS_START * (2**40)
    for start in range(first, 2**63, BLOCK // 2):
        with jax.enable_x64(True):
            yield block(jnp.int64(start))


def _split_tree(key: jax.Array) -> Iterator[jax.Array]:
    """Two words of each `sub` of `key, sub = split(key)`, link by link along a chain.

    A block is 512 links of each of 2048 chains, which makes it fast; a chain's words stay together.
    """

    @jax.jit
    def block(keys):
        def link(keys, _):
            pairs = jax.vmap(jax.random.split)(keys)
            words = jax.vmap(lambda sub: jax.random.bits(sub, (2,)))(pairs[:, 1])
            return pairs[:, 0], words

        keys, words = lax.scan(link, keys, length=LINKS)
        return keys, jnp.swapaxes(words, 0, 1).reshape(-1)

    keys = jax.random.split(key, CHAINS)
    while True:
        keys, words = block(keys)
        yield words


def _control(key: jax.Array) -> Iterator[np.ndarray]:
    """Another generator (NumPy's SFC64): what the tests say of one that is known to be good."""
    generator = np.random.Generator(np.random.SFC64(np.asarray(jax.random.key_data(key))))
    while True:
        yield generator.integers(0, 2**32, BLOCK, dtype=np.uint32)


STREAMS: dict[str, Callable[[jax.Array], Iterator]] = {
    "long": _long,
    "split": _split,
    "fold_in": _fold_in,
    "low_bits": _low_bits,
    "split_tree": _split_tree,
    "seeds": _seeds,
    "low_bit": _low_bit,
    "control": _control,
}
_SEEDS_START = 0  # which run of seeds `seeds` takes; set with the seed of the run


def _open(name: str, seed: int) -> Iterator:
    global _SEEDS_START
    _SEEDS_START = seed % 2**20
    return STREAMS[name](make_key(seed))


# The tests: (dieharder's number, its n-tuple option), in the order of `dieharder -a`.

LAGS = tuple(range(33))
QUICK_LAGS = (0, 1, 3, 7)  # the lagged sums read nine tenths of all words


def _tests(quick: bool, chosen: list[int] | None) -> list[tuple[int, int | None]]:
    options: dict[int, tuple] = dict.fromkeys((*range(14), 15, 16, 17), (None,))
    options |= {100: (None,), 101: (None,), 102: (None,)}
    options |= {200: tuple(range(1, 13)), 201: (2, 3, 4, 5), 202: (2, 3, 4, 5)}
    options |= {203: QUICK_LAGS if quick else LAGS, 204: (None,), 205: (None,), 206: (None,)}
    options |= dict.fromkeys((207, 208, 209), (None,))
    wanted = options if chosen is None else chosen
    unknown = sorted(set(wanted) - set(options))
    if unknown:
        raise SystemExit(f"no such tests, or not to be used: {unknown}; see `dieharder -l`")
    return [(number, option) for number in wanted for option in options[number]]


def _feed(process: subprocess.Popen, stream: Iterator) -> int:
    """Writes the stream to the process until it stops reading; the number of words written."""
    n_words = 0
    current = next(stream)
    try:
        while True:
            following = next(stream)  # dispatched now, made while the current block is written
            array = np.asarray(current)
            process.stdin.write(memoryview(array).cast("B"))
            n_words += array.size
            current = following
    except BrokenPipeError:
        return n_words
    finally:
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()


def _dieharder(number: int, option: int | None, stream: Iterator, extra: tuple = ()) -> list[dict]:
    command = ["dieharder", "-g", "200", "-d", str(number), *extra]
    if option is not None:
        command += ["-n", str(option)]
    start = time.monotonic()
    # Output to a file: a pipe that nobody reads while the stream is written could fill up.
    output = Path(f"/tmp/random_quality.{os.getpid()}.out")
    with output.open("w") as out:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=out, stderr=subprocess.STDOUT, bufsize=0
        )
        fcntl.fcntl(process.stdin.fileno(), F_SETPIPE_SZ, 2**20)
        n_words = _feed(process, stream)
        process.wait()
    text = output.read_text()
    output.unlink()
    rows = []
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.split("|")]
        if len(cells) == 6 and cells[5] in ("PASSED", "WEAK", "FAILED"):
            rows.append(
                {
                    "number": number,
                    "test": cells[0],
                    "n_tuple": int(cells[1]),
                    "t_samples": int(cells[2]),
                    "p_samples": int(cells[3]),
                    "p_value": float(cells[4]),
                    "assessment": cells[5],
                }
            )
    if not rows:
        raise RuntimeError(f"no result in the output of {' '.join(command)}:\n{text}")
    rows[0]["seconds"] = round(time.monotonic() - start, 1)
    rows[0]["words"] = n_words
    return rows


def _save(name: str, record: dict) -> None:
    summary = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    summary["date"] = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    summary["machine"] = {"processor": _processor(), "system": platform.platform()}
    summary["versions"] = {"generator": GENERATOR_VERSION, "jax": jax.__version__}
    summary.setdefault("streams", {})[name] = record
    RESULTS.parent.mkdir(exist_ok=True)
    aside = RESULTS.with_suffix(".tmp")
    aside.write_text(json.dumps(summary, indent=1) + "\n")
    aside.replace(RESULTS)


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _examine(name: str, seed: int, tests: list[tuple[int, int | None]], quick: bool) -> dict:
    """Runs the tests on one stream, then those that came out WEAK again from another seed."""
    every = len(tests) >= len(_tests(quick, None))
    # A few chosen tests get an entry of their own, lest they replace a whole run's.
    entry = name if every else f"{name}, tests {' '.join(map(str, dict(tests)))}"
    record = {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "generator_version": GENERATOR_VERSION,
        "seed": seed,
        "quick": quick,
        "complete": False,
        "words": 0,
        "counts": {"PASSED": 0, "WEAK": 0, "FAILED": 0},
        "results": [],
        "reruns": [],
    }
    stream = _open(name, seed)
    for number, option in tests:
        rows = _dieharder(number, option, stream)
        record["results"] += rows
        record["words"] += rows[0]["words"]
        for row in rows:
            record["counts"][row["assessment"]] += 1
            _say(name, row)
        _save(entry, record)

    weak = [row for row in record["results"] if row["assessment"] == "WEAK"]
    again = _open(name, seed + 1000)
    options = {number: [o for n, o in tests if n == number] for number, _ in tests}
    units = {  # several weak rows may come from one run, and share a rerun
        (row["number"], row["n_tuple"] if options[row["number"]] != [None] else None): row
        for row in weak
    }
    for (number, option), row in units.items():
        # The tests that give a single p-value break down with more (dab_monobit2 then fails
        # every generator): they run three times as they are.
        single = row["p_samples"] == 1
        reruns = [()] * 3 if single else [("-m", "2", "-Y", "1", "-k", "2")]
        for extra in reruns:
            rows = _dieharder(number, option, again, extra)
            was_weak = {(row["test"], row["n_tuple"]) for row in weak}
            rows = [row for row in rows if (row["test"], row["n_tuple"]) in was_weak]
            record["reruns"] += rows
            for row in rows:
                _say(f"{name} again", row)
            _save(entry, record)
    record["complete"] = True
    _save(entry, record)
    return record


def _say(name: str, row: dict) -> None:
    print(
        f"{name:16s} {row['number']:3d} {row['test']:24s} {row['n_tuple']:3d} "
        f"p = {row['p_value']:.8f}  {row['assessment']}",
        f" ({row['seconds']:.0f} s)" if "seconds" in row else "",
        flush=True,
    )


def _print(name: str, record: dict) -> None:
    counts = ", ".join(f"{count} {what}" for what, count in record["counts"].items())
    table = Table(title=f"{name} (seed {record['seed']}): {counts}")
    for column in ("test", "n-tuple", "p-value", "assessment"):
        table.add_column(column)
    for again, rows in (("", record["results"]), (" again", record["reruns"])):
        for row in rows:
            cells = (row["test"] + again, str(row["n_tuple"]), f"{row['p_value']:.8f}")
            table.add_row(*cells, row["assessment"])
    Console(width=100).print(table)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--stream", choices=STREAMS, nargs="+", help="these streams")
    what.add_argument("--all", action="store_true", help="every stream but the control")
    parser.add_argument("--tests", type=int, nargs="+", metavar="N", help="these `dieharder -d N`")
    parser.add_argument("--quick", action="store_true", help="lagged sums of 4 lags, not of 33")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    if shutil.which("dieharder") is None:
        print("dieharder is not installed: apt-get install dieharder", file=sys.stderr)
        raise SystemExit(2)

    tests = _tests(arguments.quick, arguments.tests)
    names = [name for name in STREAMS if name != "control"] if arguments.all else arguments.stream
    failed = False
    for name in names:
        record = _examine(name, arguments.seed, tests, arguments.quick)
        _print(name, record)
        rows = record["results"] + record["reruns"]
        failed |= name != "control" and any(row["assessment"] == "FAILED" for row in rows)
    raise SystemExit(1 if failed else 0)


if __name__ == "__main__":
    main()
