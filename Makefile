# Every target makes the environment it needs in $(VENV): with uv where it is installed,
# with python -m venv and pip where it is not. Nothing is installed outside it, but for the
# system packages of `make test`, and those only for root on Debian and Ubuntu.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

VENV ?= .venv
ifeq ($(OS),Windows_NT)
BIN := $(VENV)/Scripts
else
BIN := $(VENV)/bin
endif
# Windows and macOS draw on their own desktop; Linux gets a virtual screen with OpenGL.
ifeq ($(shell uname -s),Linux)
XVFB := xvfb-run -a -s "-screen 0 1920x1200x24 +extension GLX"
endif
# Mesa's software OpenGL and Triton each bring an LLVM, and crash in one process: what draws is
# tested in a process of its own.
DRAWING_TESTS := tests/e2e tests/gl tests/qt
OTHER_TESTS := $(filter-out $(DRAWING_TESTS),$(patsubst %/,%,$(filter-out %__pycache__/,$(wildcard tests/*/))))
PYTEST_ARGS ?=
BENCH_ARGS ?=

.PHONY: help demo test lint docs bench screenshots constraints system-packages clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/.demo ## Open napari with a real chest CT and the live X-ray panel
	$(BIN)/python scripts/demo.py

test: $(VENV)/.test system-packages ## Run every check and the whole test suite
	@$(MAKE) --no-print-directory lint
	$(XVFB) $(BIN)/python -m pytest --durations=15 $(DRAWING_TESTS) $(PYTEST_ARGS)
	$(XVFB) $(BIN)/python -m pytest --durations=15 $(OTHER_TESTS) $(PYTEST_ARGS)

lint: $(VENV)/.test ## Run the checks that need no screen
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/npe2 validate napari-cxr3d

docs: $(VENV)/.docs ## Build the documentation into docs/_build/html
	$(BIN)/sphinx-build -W --keep-going -q -b html docs docs/_build/html
	@echo "Open docs/_build/html/index.html"

bench: $(VENV)/.bench system-packages ## Time the projectors beside their peers, and the panel
	$(BIN)/python benchmarks/projectors.py $(BENCH_ARGS)
	$(XVFB) $(BIN)/python benchmarks/panel_latency.py

screenshots: $(VENV)/.demo system-packages ## Take the documentation's pictures again
	$(XVFB) $(BIN)/python scripts/take_screenshots.py docs/assets

constraints: ## Pin the newest releases that work together (needs uv)
	scripts/pin_constraints.sh

system-packages:
	scripts/system_packages.sh

$(VENV)/.%: pyproject.toml constraints.txt scripts/setup_env.sh
	VENV=$(VENV) scripts/setup_env.sh $*
	@touch $@

clean: ## Remove the environment and everything that was built
	rm -rf $(VENV) build dist *.egg-info docs/_build demo-pictures \
		.mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
