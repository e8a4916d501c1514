# Everything below sets up its own environment (.venv) once; it needs Python 3.11 or newer and make.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt
JOBS ?= 2
VLLM_PYTHON ?= V/bin/python
CLAUDE_CODE ?= ../shared/data/traces/entire-claude-code/requests.jsonl.gz

.PHONY: help demo test check lint bench bench-tiers fuzz oracle real compare-real vllm-cpu browser tables accuracy docs site clean
.DEFAULT_GOAL := help

help: ## print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(VENV)/core: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "agentservesim needs Python 3.11 or newer: install it, or make PYTHON=/path/to/python"; exit 2; }
	@echo "making the environment in $(VENV) (once)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(PIP) -e .
	@touch $@

$(VENV)/dev: $(VENV)/core
	@echo "installing the development tools (once)"
	@$(PIP) -e '.[dev]'
	@touch $@

demo: $(VENV)/core ## run the main job on the shipped trace: a table, and a result folder in out/demo
	@$(BIN)/agentservesim run demo --num-instances 4 --out out/demo

test: $(VENV)/dev ## every test that needs nothing but this repository
	$(BIN)/python -m pytest -n $(JOBS) tests

lint: $(VENV)/dev ## ruff, mypy --strict, import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

check: lint test ## lint and test: what a change must pass

bench-tiers: $(VENV)/core ## what DRAM and SSD tiers cost, for each residency policy
	$(BIN)/python -m benchmarks.tiers

fuzz: $(VENV)/dev ## 10^5 random sequences of events over four tiers, under policies that behave badly (an hour)
	$(BIN)/python -m pytest -m slow --hypothesis-profile=search tests/engine/test_residency_random.py

bench: $(VENV)/core ## speed: 1,000 and 10,000 programs, and turns of growing context
	$(BIN)/python -m benchmarks

oracle: $(VENV)/dev ## compare with vLLM's own scheduler: make oracle VLLM_PYTHON=V/bin/python (see docs/oracle.md)
	$(BIN)/python -m pytest -m oracle --vllm-python $(VLLM_PYTHON) tests

vllm-cpu: $(VENV)/dev ## predict runs of real vLLM on this CPU: make vllm-cpu VLLM_PYTHON=V/bin/python (see validation/README.md)
	$(BIN)/python validation/vllm_cpu/experiment.py --vllm-python $(VLLM_PYTHON) --out out/vllm-cpu

real: $(VENV)/dev ## run the real traces that lie in ../shared end to end
	$(BIN)/python -m pytest -m real -rs tests

compare-real: $(VENV)/core ## every bundle on the Claude Code traces in ../shared, at three loads (see docs/comparison.md)
	$(BIN)/python examples/bundle_compare.py $(CLAUDE_CODE) --out out/bundles
	$(BIN)/python examples/bundle_compare.py $(CLAUDE_CODE) --out out/variants --variants

browser: $(VENV)/dev ## open the reports in headless Chromium (apt-get install chromium)
	@$(PIP) -e '.[browser]'
	$(BIN)/python -m pytest -m browser -rs tests

tables: $(VENV)/dev ## make the measurements that ship with the package anew (docs/hardware.md)
	@$(PIP) -e '.[tables]'
	$(BIN)/python scripts/make_tables.py

accuracy: $(VENV)/dev ## replay the recorded runs in ../shared and write docs/accuracy.md anew (a few minutes)
	$(BIN)/python scripts/make_accuracy.py

docs: $(VENV)/dev ## run what README and docs/ show, and write its output and the generated pages anew
	$(BIN)/python tests/test_docs.py

site: $(VENV)/dev ## the documentation as a site that needs no network: out/site/index.html
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo 'out/site/index.html (search wants a server: python3 -m http.server --directory out/site)'

clean: ## remove the environment, caches and results
	rm -rf $(VENV) out .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
