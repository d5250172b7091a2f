# `make` lists the targets. The first one that needs it creates .venv and installs everything.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.installed
export OMP_NUM_THREADS ?= 1

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-9s %s\n", $$1, $$2}' Makefile

demo: $(READY) ## train on a built-in cloud scenario, compare with heuristics, write a report (minutes)
	$(BIN)/fairlead demo --out runs/demo --force

test: lint ## lint, types and the fast tests
	$(BIN)/pytest -n 2 -m "not slow"

test-all: lint ## lint, types and all tests
	$(BIN)/pytest -n 2

lint: $(READY) ## format, lint and type checks
	$(BIN)/ruff format --check . && $(BIN)/ruff check . && $(BIN)/pyright

bench: $(READY) ## simulator speed on this machine
	$(BIN)/fairlead bench cloud-simulator

clean: ## remove everything that the other targets made
	rm -rf .venv runs build dist *.egg-info .pytest_cache .ruff_cache .hypothesis && find . -name __pycache__ -prune -exec rm -rf {} +

$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/pip || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[all]'
	touch $@

.PHONY: help demo test test-all lint bench clean
