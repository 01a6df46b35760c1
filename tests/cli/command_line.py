"""Small files for the command line, and the line itself, run in this process."""

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from energax.cli._app import run

ROWS = (np.random.default_rng(0).random((40, 6)) < [0.1, 0.3, 0.5, 0.5, 0.7, 0.9]).astype(np.uint8)


class Ended(NamedTuple):
    """How a command ended and what it printed."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What it printed, which must be JSON and nothing else."""
        return json.loads(self.out)


def call(capsys: Any, *arguments: object) -> Ended:
    """Run a command line."""
    capsys.readouterr()
    code = run([str(argument) for argument in arguments])
    return Ended(code, *capsys.readouterr())


def listing(folder: Path) -> dict[str, bytes | None]:
    """Every file under a folder with its content, every folder with none."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


def tampered(path: Path, to: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """A copy of a saved model whose description was changed behind its back."""
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    said = json.loads(header["__metadata__"]["energax"])
    change(said)
    header["__metadata__"]["energax"] = json.dumps(said)
    text = json.dumps(header).encode()
    to.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + length :])
