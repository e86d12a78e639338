# `make demo` and `make test` set up what they need: a virtual environment in .venv, the packages
# at the versions of constraints.txt, and the bundled model in the user's cache folder.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

# What the demo runs: the bundled tasks tagged "demo", a part of each, on the bundled model.
DEMO := demo --model local:smollm2-135m --limit 40

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help setup model demo test lint types unit format clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(VENV)/.installed ## Make the virtual environment and install the packages

model: $(VENV)/.installed ## Fetch the bundled model once (98 MB), or check the one that is here
	@$(BIN)/evalkit models fetch smollm2-135m

demo: model ## Evaluate the bundled model on the demo tasks (minutes); prints where the report lies
	$(BIN)/evalkit run $(DEMO)

test: lint types unit ## Run all checks: lint, types, tests

lint: $(VENV)/.installed ## Check style and formatting
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: $(VENV)/.installed ## Check types
	$(BIN)/mypy

unit: model ## Run the tests and the doctests
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile

format: $(VENV)/.installed ## Format the code, and mend what ruff can mend
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

clean: ## Remove the virtual environment, the caches and built packages; runs/ stays
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find evalkit tests tasks benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

# A stamp, so that pip runs only when the packages asked for have changed.
$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/pip
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
		--editable '.[local,dev]' --constraint constraints.txt
	@touch $@

# pip is the last thing that venv puts there: a half-made environment is made again.
$(BIN)/pip:
	@command -v $(PYTHON) > /dev/null || \
		{ echo "no $(PYTHON) here: install Python 3.11 or newer, or name one: make PYTHON=..." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "$(PYTHON) is $$($(PYTHON) -V 2>&1); 3.11 or newer is needed: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2> /dev/null || \
		{ echo "$(PYTHON) cannot make a virtual environment; on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
