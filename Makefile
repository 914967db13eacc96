# `make demo` and `make test` work on a machine that has never seen the project: Python >= 3.11 and make are enough.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Packages whose tensor shapes are checked while tests run.
SHAPED := polyglance.engines,polyglance.mixture,polyglance.model,polyglance.train,polyglance.evaluate
# One thread per test worker; more would fight over the cores.
PYTEST_SHAPES := --jaxtyping-packages=$(SHAPED),beartype.beartype
PYTEST_OPTIONS := -n auto --dist loadfile $(PYTEST_SHAPES)
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(PYTEST_OPTIONS)
# The oldest transformers release of the range in pyproject.toml, and what tests/model needs beside the package.
OLDEST_TRANSFORMERS := $(shell sed -n 's/^ *"transformers>=\([0-9.]*\),.*/\1/p' pyproject.toml)
TEST_TOOLS := pytest pytest-socket pytest-timeout pytest-xdist hypothesis beartype accelerate peft

.PHONY: help install install-dev demo test test-fast test-oldest test-quantised check docs style clean

help:
	@echo "make demo       a study from nothing to out/micro/report/index.html (7.2 minutes on two idle cores)"
	@echo "make test       all tests        make test-fast  without the slow ones"
	@echo "make check      ruff and mypy    make style      let ruff mend what it can"
	@echo "make docs       the documentation site in out/site, with warnings as errors"
	@echo "make test-oldest                 tests of the model on the oldest supported release of transformers"
	@echo "make test-quantised              tests of quantised weights, which need torchao"

# The stamps are redone when what is installed has changed.
$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[train]'
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

install: $(VENV)/.installed
install-dev: $(VENV)/.installed-dev

demo: $(VENV)/.installed
	$(BIN)/polyglance study run examples/micro.toml

test: $(VENV)/.installed-dev
	$(PYTEST) tests

test-fast: $(VENV)/.installed-dev
	$(PYTEST) -m "not slow" tests

# In an environment of its own; the other tests run with the newest release, which pip chooses.
test-oldest:
	$(PYTHON) -m venv --clear $(VENV)-oldest
	$(VENV)-oldest/bin/python -m pip install --quiet --constraint constraints.txt torch
	$(VENV)-oldest/bin/python -m pip install --quiet --constraint constraints.txt --editable '.[train]' $(TEST_TOOLS) \
		'transformers==$(OLDEST_TRANSFORMERS).*'
	$(VENV)-oldest/bin/python -c 'import transformers; print("transformers", transformers.__version__)'
	OMP_NUM_THREADS=1 $(VENV)-oldest/bin/python -m pytest $(PYTEST_OPTIONS) tests/model

# torchao is in a folder of its own: no other test runs with it.
test-quantised: $(VENV)/.installed-dev
	$(BIN)/python -m pip install --quiet --no-deps --upgrade --target $(VENV)/torchao torchao
	PYTHONPATH=$(VENV)/torchao OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(PYTEST_SHAPES) tests/model/test_quantised.py

check: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(VENV)/.installed-dev
	rm -rf out/site-pages
	$(BIN)/python docs/site_pages.py out/site-pages
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict  # with --quiet it would not see the warnings

style: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) $(VENV)-oldest out .pytest_cache .mypy_cache .ruff_cache .hypothesis
