# `make demo` and `make test` need only python3 (3.11 or newer), make and the package registry:
# each builds its own virtual environment from constraints.txt first.

PYTHON ?= python3
VENV ?= .venv
CONSTRAINTS ?= constraints.txt
BIN = $(VENV)/bin
READY = $(VENV)/.installed
TESTS ?=

.DEFAULT_GOAL := help
.PHONY: help demo test lint format bench docs clean test-newest test-lowest

help: ## list these targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(READY): pyproject.toml $(CONSTRAINTS)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade pip
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
	  --constraint $(CONSTRAINTS) --editable ".[dev]"
	touch $(READY)

demo: $(READY) ## train an RBM on handwritten digits and write energax-demo/report.html
	$(BIN)/energax demo

test: $(READY) ## every test
	$(BIN)/python -m pytest -n 2 $(TESTS)

lint: $(READY) ## style, types, and the order of the layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/pyright --project benchmarks --pythonpath $(BIN)/python
	$(BIN)/lint-imports

format: $(READY) ## put the code in order
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(READY) ## energax beside its peers and the hardware's floor
	$(BIN)/python benchmarks/run.py

docs: ## the documentation, in site/
	$(PYTHON) -m venv $(VENV)-docs
	$(VENV)-docs/bin/python -m pip install --quiet --disable-pip-version-check \
	  --constraint $(CONSTRAINTS) --editable ".[all,docs]"
	$(VENV)-docs/bin/mkdocs build --strict

test-newest: ## all but the slow tests with the newest dependencies this Python takes
	$(MAKE) test VENV=$(VENV)-newest-$$($(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])') \
	  CONSTRAINTS=/dev/null TESTS='-m "not slow"'

test-lowest: ## all but the slow tests with the lowest versions pyproject.toml allows
	$(MAKE) test VENV=$(VENV)-lowest CONSTRAINTS=constraints-lowest.txt TESTS='-m "not slow"'

clean: ## remove what these targets made
	rm -rf .venv* site energax-demo .pytest_cache .ruff_cache .import_linter_cache
