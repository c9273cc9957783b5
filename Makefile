# lastgood: `make release` and `make test` are all a newcomer needs; the rest is for working on it.
PYTHON ?= python3
MODEL ?= digits
SYSTEM ?= yes

BIN := .venv/bin
LASTGOOD := $(BIN)/lastgood

.DEFAULT_GOAL := help
.PHONY: help release down drill compose setup test quick check format tests system clean

help: ## say what there is
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

release: system setup ## set everything up and release MODEL (digits, tumour, or your own)
	$(LASTGOOD) up
	$(LASTGOOD) release $(MODEL) --traffic evaluation --wait stable

down: ## stop the local stack
	@if [ -x $(LASTGOOD) ]; then $(LASTGOOD) down; else echo "nothing was installed yet"; fi

drill: setup ## release a bad version on purpose, in a throwaway place, and time the way back
	$(LASTGOOD) drill dead

compose: ## the same in containers, with Grafana and PostgreSQL for Prefect (docs/compose.md)
	tools/compose-secrets
	docker compose up --build --detach --wait

setup: .venv/.ready ## create the virtual environment and install into it

.venv/.ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || \
		{ echo "lastgood needs Python 3.11 to 3.13; $(PYTHON) is $$($(PYTHON) --version). Choose one: make PYTHON=python3.12 ..."; exit 2; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/python -m uv pip install --quiet --python $(BIN)/python --compile-bytecode -c constraints.txt -e '.[all]'
	@touch $@

.venv/.ready-dev: .venv/.ready
	$(BIN)/python -m uv pip install --quiet --python $(BIN)/python --compile-bytecode -c constraints.txt -e '.[all,dev]'
	@touch $@

.venv/.ready-ci: tools/ci-checkers/package.json tools/peer-clients/requirements.txt | .venv/.ready-dev
	@tools/ci-checkers/install .venv/ci-checkers
	@$(BIN)/python -m uv venv --quiet --clear --python $(BIN)/python .venv/peer-clients
	@$(BIN)/python -m uv pip install --quiet --python .venv/peer-clients/bin/python -r tools/peer-clients/requirements.txt
	@touch $@

test: GROUPS := signals engine compose database load
test: system check tests ## format, lint, types, import contracts and every test

quick: check .venv/.ready-ci ## the two-minute part of it
	$(BIN)/python -m pytest -q -m "not slow and not system"

check: .venv/.ready-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

tests: .venv/.ready-dev .venv/.ready-ci
	$(BIN)/python -m pytest --durations=15 -n 2 --dist loadgroup --ignore tests/benchmarks
	$(BIN)/python -m pytest -q tests/benchmarks

format: .venv/.ready-dev ## format and fix what can be fixed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

system:
	@SYSTEM=$(SYSTEM) tools/system-packages $(GROUPS)

clean: down ## remove what was made here: environment, caches, and .lastgood with every version
	rm -rf .venv .lastgood .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build src/lastgood.egg-info
