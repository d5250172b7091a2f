# `make` lists the targets. The first one that needs it creates .venv and installs everything.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.installed
VENDOR := platform/page/static/vendor
export OMP_NUM_THREADS ?= 1

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' Makefile

demo: $(READY) ## train on a built-in cloud scenario, compare with heuristics, write a report (minutes)
	$(BIN)/fairlead demo --out runs/demo --force

test: lint ## lint, types and the fast tests
	$(BIN)/pytest -n 2 -m "not slow"

test-all: lint ## lint, types and all tests
	$(BIN)/pytest -n 2

lint: $(READY) ## format, lint and type checks
	$(BIN)/ruff format --check . && $(BIN)/ruff check . && $(BIN)/pyright

assets: ## charts and fragments of the operator page, from npm into the package
	npm ci --ignore-scripts --no-audit --no-fund
	install -D -m 644 -t $(VENDOR) node_modules/htmx.org/dist/htmx.min.js node_modules/uplot/dist/uPlot.iife.min.js node_modules/uplot/dist/uPlot.min.css
	install -m 644 node_modules/htmx.org/LICENSE $(VENDOR)/htmx.LICENSE && install -m 644 node_modules/uplot/LICENSE $(VENDOR)/uplot.LICENSE

dashboards: $(READY) ## write the Grafana dashboards' JSON again
	$(BIN)/python -m fairlead.ops.dashboards.build

bench: $(READY) ## simulator speed on this machine
	$(BIN)/fairlead bench cloud-simulator

clean: ## remove everything that the other targets made
	rm -rf .venv node_modules $(VENDOR) runs build dist *.egg-info .pytest_cache .ruff_cache .hypothesis && find . -name __pycache__ -prune -exec rm -rf {} +

$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/pip || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[all]'
	touch $@

.PHONY: help demo test test-all lint bench assets dashboards clean
