"""The documentation is complete and its code runs, what it prints included."""

import ast
import importlib
import inspect
import re
from pathlib import Path

import jax
import pages
import pytest

SOURCE = pages.ROOT / "src" / "energax"
ROOMS = sorted(folder.name for folder in SOURCE.iterdir() if (folder / "__init__.py").exists())
ALL_PAGES = sorted([pages.ROOT / "README.md", *pages.DOCS.rglob("*.md")])
DIRECTIVE = re.compile(r"^::: energax\.(\w+)\.(\w+)$", re.MULTILINE)


@pytest.fixture(autouse=True)
def as_users_run_it(monkeypatch, tmp_path):
    """An empty folder, a terminal of 80 columns, and JAX's own defaults."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        yield


def public_names(folder: Path) -> set[str]:
    """What an `__init__.py` re-exports (`X as X`, or `*` of a folder) or defines."""
    names = set()
    for node in ast.parse((folder / "__init__.py").read_text()).body:
        if isinstance(node, ast.ImportFrom) and node.names[0].name == "*":
            names |= public_names(SOURCE.joinpath(*str(node.module).split(".")[1:]))
        elif isinstance(node, ast.ImportFrom):
            names |= {alias.name for alias in node.names if alias.asname == alias.name}
        elif isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            names.add(node.name)
    return names


def in_folder(page: Path) -> str:
    return str(page.relative_to(pages.ROOT))


@pytest.mark.parametrize("room", ROOMS)
def test_every_public_name_of_a_room_is_in_the_api(room):
    page = pages.DOCS / "api" / f"{room}.md"
    shown = {name for where, name in DIRECTIVE.findall(page.read_text()) if where == room}
    assert shown == public_names(SOURCE / room)


def test_every_top_level_name_is_in_the_api():
    text = (pages.DOCS / "api" / "index.md").read_text()
    shown = dict(re.findall(r"^\| \[`ex\.(\w+)`\]\[energax\.(\w+\.\w+)\]", text, re.MULTILINE))
    assert set(shown) == public_names(SOURCE)
    top = importlib.import_module("energax")
    for name, address in shown.items():
        room, same = address.split(".")
        assert same == name
        assert getattr(importlib.import_module(f"energax.{room}"), name) is getattr(top, name)


def test_every_page_is_in_the_navigation():
    listed = re.findall(r"[\w/]+\.md", (pages.ROOT / "mkdocs.yml").read_text())
    assert sorted(listed) == sorted(
        str(page.relative_to(pages.DOCS)) for page in pages.DOCS.rglob("*.md")
    )


@pytest.mark.parametrize("page", pages.with_code(), ids=in_folder)
def test_code_runs_and_prints_what_the_page_shows(page):
    for block in pages.run(page):
        if block.kind == "console" or block.shown is not None:
            shown = block.code if block.kind == "console" else block.shown
            assert pages.alike(shown, block.printed), (
                f"{page.name}, line {block.line}: `python tests/docs/pages.py {in_folder(page)}`"
                f" refreshes it. Printed now:\n{block.printed}"
            )


@pytest.mark.parametrize("page", ALL_PAGES, ids=in_folder)
def test_tables_are_what_their_scripts_wrote(page):
    for shown, wanted, _ in pages.tables(page):
        assert shown == wanted, f"`python tests/docs/pages.py {in_folder(page)}` refreshes it"


def test_every_figure_has_its_numbers_on_a_page():
    shown = {found for page in ALL_PAGES for found in re.findall(pages.TABLE, page.read_text())}
    assert {Path(script).stem for script, _ in shown} == {
        path.stem for path in pages.DOCS.glob("*/figures/*.json")
    }
    assert all(len(text.strip()) > 100 for _, text in shown)


def test_every_rule_of_the_algebra_is_in_its_table():
    text = (pages.DOCS / "how_to" / "combine_models.md").read_text()
    rules = importlib.import_module("energax.energies.algebra._rules")
    written = [f"{a.__name__} * {b.__name__}" for a, b in rules.PRODUCT]
    written += [f"{a.__name__} ** beta" for a in rules.POWER]
    written += [f"condition({a.__name__}, values, mask)" for a in rules.CONDITION]
    written += [f"path({a.__name__}, {b.__name__})" for a, b in rules.PATH]
    assert [words for words in written if f"`{words}`" not in text] == []


def documented() -> dict[str, str]:
    """Every docstring with an example: public objects of all rooms, and their own methods."""
    found = {}
    for room in ROOMS:
        module = importlib.import_module(f"energax.{room}")
        for name in sorted(public_names(SOURCE / room)):
            thing = getattr(module, name)
            members = vars(thing).items() if inspect.isclass(thing) else ()
            for label, member in [(name, thing), *((f"{name}.{k}", v) for k, v in members)]:
                text = getattr(member, "__doc__", None)
                if isinstance(text, str) and "```python" in text and "._" not in label:
                    found[f"{room}.{label}"] = inspect.cleandoc(text)
    return found


EXAMPLES = documented()


@pytest.mark.parametrize("name", EXAMPLES)
def test_docstring_examples_run(name):
    with pages.namespace("docstring") as namespace:
        for code in re.findall(r"^```python\n(.*?)^```", EXAMPLES[name], re.M | re.S):
            pages.run_python(code, namespace, f"<docstring of {name}>")


def test_docstrings_with_examples_are_found():
    assert len(EXAMPLES) > 15


def test_numbers_are_left_out_of_comparisons():
    assert pages.alike("log Z = 3.20 [3.1, inf]\nRBM2", "log Z = -4.1 [ 2e-3,   7]  RBM2")
    assert not pages.alike("converged", "not converged")
    assert not pages.alike("RBM2", "RBM3")
    assert not pages.alike("log Z = 3.20", "log Z = nan")
