"""Files written aside and renamed into place: whole or not at all."""

import contextlib
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from energax.io._checks import one_line


@contextmanager
def written_aside(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A new file to fill, which becomes `path` when the block ends.

    A reader finds the old file or the new one, never a part, and so does who comes after a kill
    or a power cut. If the block raises, nothing is left. What a killed process left beside
    `path` is removed when `path` is next written.

    **Raises:** `ValueError` if `path` is a folder, or its folder is missing or closed; `OSError`
    if the disk fails. The old file is then as it was.
    """
    path = Path(os.path.realpath(path))  # a link keeps pointing where it did
    if path.is_dir():
        raise ValueError("this is a folder: give the name of a file in it")
    if not path.parent.is_dir():
        raise ValueError(f"the folder {path.parent} does not exist: make it first")
    aside = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_native_id()}.part")
    try:
        _sweep(path)
        aside.unlink(missing_ok=True)  # a process of the same number left it: in containers, often
        file = open(aside, "xb")  # noqa: SIM115
    except OSError as error:
        raise ValueError(f"the folder cannot be written to: {one_line(error)}") from None
    try:
        with file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    except BaseException:
        with contextlib.suppress(OSError):
            aside.unlink()
        raise
    if os.name == "posix":  # elsewhere a folder has no descriptor to sync
        descriptor = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _sweep(path: Path) -> None:
    """Remove what processes that run no more left beside `path`."""
    mine, names = re.compile(rf"\.{re.escape(path.name)}\.(\d+)-\d+\.part"), []
    with contextlib.suppress(OSError):  # a folder that may be written to but not listed
        names = os.listdir(path.parent)
    for name in names:
        found = mine.fullmatch(name)
        if found and not _runs(int(found[1])):
            with contextlib.suppress(OSError):
                path.with_name(name).unlink()


def _runs(process: int) -> bool:
    """Whether a process of this number runs on this machine."""
    if os.name != "posix":
        return False  # there a file that is open cannot be removed, so trying does no harm
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # it runs, and is another user's
        return True
    return True
