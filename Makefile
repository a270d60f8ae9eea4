# Each target sets up .venv by itself; all it takes is make, Python 3.11 or newer, and the package index.
# With npm, the pages' third-party scripts are fetched too; without it they do without, and say so.
#   make run [PORT=8081] [ARGS="--agent me=examples.own_agent:agent"]
#   make test [ARGS="-k cursor"]
#   BENCH=all make bench

PYTHON ?= python3
BIN := .venv/bin

FETCH := gateway/web/npm/fetch.py

.PHONY: run test check lint-js fmt bench

run: .venv/.run
	@$(BIN)/python $(FETCH)
	$(BIN)/gateway serve $(if $(PORT),--port $(PORT)) $(ARGS)

test: .venv/.dev
	@$(BIN)/python $(FETCH) --dev
	@$(BIN)/python -m pytest --numprocesses 2 --dist loadfile $(ARGS)

check: .venv/.dev lint-js
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy

lint-js: .venv/.dev
	@$(BIN)/python $(FETCH) --dev
	@if [ -x gateway/web/npm/node_modules/.bin/eslint ]; then \
		cd gateway/web && npm/node_modules/.bin/eslint --config npm/eslint.config.js .; \
	else echo "The scripts of the pages were not checked: that takes npm." >&2; fi

fmt: .venv/.dev
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

bench: .venv/.bench
	$(BIN)/python -m tests.bench $(ARGS)

# What is installed, as stamps; the others hold what .run does, and more.
.venv/.run: EXTRAS :=
.venv/.dev: EXTRAS := [dev]
.venv/.bench: EXTRAS := [bench]

.venv/.run .venv/.dev .venv/.bench: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else \
		"Trunkline needs Python 3.11 or newer, and $(PYTHON) is %d.%d: try make PYTHON=python3.12" \
		% sys.version_info[:2])'
	@$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.$(EXTRAS)'
	@touch $@
