"""A file is whole after any failure and any kill, and nothing stays beside it for ever."""

import os
import signal
import stat
import subprocess
import sys

import numpy as np
import pytest

from energax import io
from energax.io._aside import written_aside

KILLED = """
import os, sys
import numpy as np
from energax import io
from energax.io import _aside
{stop}
io.write_tree(sys.argv[1], {{"x": np.ones(1000)}})
"""
MOMENTS = {
    "while serialising": "io._file.serialise = lambda *a, **k: os.kill(os.getpid(), 9)",
    "before the sync": "os.fsync = lambda descriptor: os.kill(os.getpid(), 9)",
    "before the rename": "os.replace = lambda *paths: os.kill(os.getpid(), 9)",
}


def killed(path, moment):
    """A process that writes `path` and is killed at a moment."""
    code = KILLED.format(stop=MOMENTS[moment])
    ended = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True)
    assert ended.returncode == -signal.SIGKILL, ended.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_kill_leaves_the_old_file_and_nothing_once_it_is_written_again(moment, tmp_path):
    path = tmp_path / "state [1].ckpt"
    io.write_tree(path, {"x": np.zeros(3)})
    before = path.read_bytes()
    other = tmp_path / "state [1].ckpt.other"
    other.touch()
    killed(path, moment)
    assert path.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == (2 if moment == "while serialising" else 3)
    io.write_tree(path, {"x": np.ones(3)})
    assert set(tmp_path.iterdir()) == {path, other}
    tree, _ = io.read_tree(path, like={"x": np.zeros(3)})
    np.testing.assert_array_equal(tree["x"], 1)


@pytest.mark.skipif(sys.platform == "win32", reason="processes are not looked at there")
def test_what_a_running_process_writes_is_left_alone(tmp_path):
    path = tmp_path / "rows.csv"
    theirs = path.with_name(f".{path.name}.{os.getppid()}-1.part")
    theirs.write_text("half")
    with written_aside(path) as file:
        file.write(b"whole")
    assert theirs.read_text() == "half"
    assert path.read_bytes() == b"whole"


def test_a_leftover_of_the_same_number_is_in_nobodys_way(tmp_path):
    path = tmp_path / "rows.csv"
    with written_aside(path) as file:
        leftover = file.name
    with open(leftover, "w") as file:
        file.write("a container's only process has one number, each time")
    with written_aside(path) as file:
        file.write(b"whole")
    assert path.read_bytes() == b"whole"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError, ValueError])
def test_a_failure_leaves_what_was_there(error, tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("before")

    def half():
        with written_aside(path) as file:
            file.write(b"half")
            raise error

    with pytest.raises(error):
        half()
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(sys.platform == "win32", reason="permissions are of another kind")
def test_a_new_file_is_as_open_as_any_and_a_link_stays(tmp_path):
    usual, path, link = tmp_path / "usual", tmp_path / "rows.csv", tmp_path / "link"
    usual.touch()
    link.symlink_to(path)
    with written_aside(link) as file:
        file.write(b"whole")
    assert link.is_symlink()
    assert path.read_bytes() == b"whole"
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(usual.stat().st_mode)


@pytest.mark.parametrize(("name", "words"), [("no/file", "make it first"), ("", "a folder")])
def test_where_nothing_can_be_written(name, words, tmp_path):
    with pytest.raises(ValueError, match=words), written_aside(tmp_path / name):
        pytest.fail("the block must not run")
