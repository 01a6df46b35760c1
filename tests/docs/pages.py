"""The documentation's pages as programs: run their code, compare and refresh what they show.

    python tests/docs/pages.py          # outputs, tables and pictures of every page in docs/
    python tests/docs/pages.py docs/tutorials/1_first_model.md

On a page,

- every fenced `python` block runs, in order, in one namespace and one empty folder, unless the line
  before it is `<!-- not run -->`; a `text` block right after it shows what it printed;
- every `console` block's `$ energax ...` lines run in that folder as well, under the same rule, and
  the lines under them show what they printed;
- what stands between `<!-- from examples/NAME.py -->` and `<!-- end -->` is that script's `table`
  of the numbers in `figures/NAME.json` beside the page.

Numbers in outputs differ between machines, so a page is compared with its numbers left out. NaN is
not a number: it stays.
"""

import contextlib
import importlib.util
import io
import json
import os
import re
import shlex
import shutil
import sys
import tempfile
import time
import types
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"

_BLOCK = re.compile(
    r"^(?P<skip><!-- not run -->\n+)?```(?P<kind>python|console)\n(?P<code>.*?)^```\n"
    r"(?:\n*```text\n(?P<shown>.*?)^```\n)?",
    re.MULTILINE | re.DOTALL,
)
TABLE = re.compile(
    r"(?<=<!-- from )(?P<script>examples/\w+\.py) -->\n(?P<shown>.*?)\n<!-- end -->", re.DOTALL
)
_NUMBER = re.compile(r"(?<![A-Za-z_])[-+]?(?:\d[\d,]*\.?\d*(?:e[-+]?\d+)?|inf)(?![A-Za-z_])")


@dataclass(frozen=True)
class Block:
    """A piece of a page that runs."""

    kind: str
    code: str
    line: int
    """Where the code begins in its file, from 1."""
    shown: str | None
    """What the page says it prints."""
    span: tuple[int, int]
    """Of the whole block in the page's text."""
    printed: str = ""


def with_code() -> list[Path]:
    """The pages that hold anything to run."""
    pages = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
    return [page for page in pages if any(True for _ in blocks(page))]


def blocks(page: Path) -> Iterator[Block]:
    """The blocks of a page that run."""
    text = page.read_text(encoding="utf-8")
    for found in _BLOCK.finditer(text):
        if found["skip"] is None and (found["kind"] == "python" or _commands(found["code"])):
            line = text[: found.start("code")].count("\n") + 1
            yield Block(found["kind"], found["code"], line, found["shown"], found.span())


def run(page: Path) -> list[Block]:
    """Run a page in the current folder; its blocks with what they printed."""
    done = []
    with _module(page.stem) as namespace:
        for block in blocks(page):
            if block.kind == "python":
                printed = run_python(block.code, namespace, str(page), block.line)
            else:
                printed = _run_console(block.code)
            done.append(Block(**{**vars(block), "printed": printed}))
    return done


def run_python(code: str, namespace: dict, name: str, line: int = 1) -> str:
    """Run code whose errors point at `line` of the file `name`; what it printed."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile("\n" * (line - 1) + code, name, "exec"), namespace)
    return printed.getvalue()


@contextlib.contextmanager
def _module(name: str) -> Iterator[dict]:
    """The namespace of a module of its own, and the registry of file classes left as it was."""
    from energax.io import _registry

    module = types.ModuleType(f"page_{name}")
    kept = dict(_registry.CLASSES)
    sys.modules[module.__name__] = module
    try:
        yield module.__dict__
    finally:
        del sys.modules[module.__name__]
        _registry.CLASSES.clear()
        _registry.CLASSES.update(kept)


namespace = _module


def _run_console(code: str) -> str:
    """Run `$ energax ...` lines; the block as it would look in a terminal of 80 columns."""
    from energax.cli._app import run as run_command

    lines = []
    for command in _commands(code):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            status = run_command(shlex.split(command)[1:])
        if status != 0:
            raise AssertionError(f"`{command}` ended with {status}: {printed.getvalue()}")
        shown = (line.rstrip() for line in printed.getvalue().rstrip().splitlines())
        lines += [f"$ {command}", *shown]
    return "\n".join(lines) + "\n"


def _commands(code: str) -> list[str]:
    return [line[2:] for line in code.splitlines() if line.startswith("$ energax ")]


def alike(shown: str, printed: str) -> bool:
    """Whether two outputs agree, numbers and line breaks apart."""
    return _words(shown) == _words(printed)


def _words(text: str) -> str:
    # Brackets of arrays stand against their numbers or not, as the widths fall out.
    text = re.sub(r"([\[\](){}])", r" \1 ", _NUMBER.sub("#", text))
    return " ".join(text.split())


def tables(page: Path) -> list[tuple[str, str, tuple[int, int]]]:
    """What a page shows of each script's numbers, what it should show, and where it stands."""
    text = page.read_text(encoding="utf-8")
    return [
        (found["shown"].strip(), _table(page, found["script"]), found.span("shown"))
        for found in TABLE.finditer(text)
    ]


def _table(page: Path, script: str) -> str:
    written = page.parent / "figures" / f"{Path(script).stem}.json"
    numbers = json.loads(written.read_text(encoding="utf-8"))
    spec = importlib.util.spec_from_file_location(Path(script).stem, ROOT / script)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.table(numbers).strip()


def refresh(page: Path) -> None:
    """Run a page and write into it what it printed, its tables, and the pictures it made."""
    text = page.read_text(encoding="utf-8")
    for _, wanted, (start, end) in reversed(tables(page)):
        text = f"{text[:start]}\n{wanted}\n{text[end:]}"
    page.write_text(text, encoding="utf-8")
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        done = run(page)
        for name in re.findall(r"!\[[^]]*\]\(figures/(\w+\.png)\)", text):
            if Path(name).exists():
                (page.parent / "figures").mkdir(exist_ok=True)
                shutil.copy(name, page.parent / "figures" / name)
    for block in reversed(done):
        start, end = block.span
        whole = text[start:end]
        if block.kind == "console":
            new = f"```console\n{block.printed}```\n"
        elif block.printed:
            new = f"```python\n{block.code}```\n\n```text\n{block.printed.rstrip()}\n```\n"
        else:
            new = f"```python\n{block.code}```\n"
        text = text[:start] + (whole if whole == new else new) + text[end:]
    page.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    os.environ["COLUMNS"] = "80"
    for page in [Path(name).resolve() for name in sys.argv[1:]] or sorted(DOCS.rglob("*.md")):
        began = time.perf_counter()
        refresh(page)
        print(f"{time.perf_counter() - began:6.1f} s  {page.name}", file=sys.stderr)
