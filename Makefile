# Every target does its own set-up: a machine needs Python 3.11 or newer and make, nothing else.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
SPHINX := $(BIN)/sphinx-build --fail-on-warning --keep-going --quiet -c docs

SBOM := sbom
CYCLONEDX = $(BIN)/cyclonedx-py requirements --pyproject pyproject.toml --output-reproducible $(CHECKED)
CHECKED := --validate

.PHONY: help demo test check chaos bench up docs format lock sbom clean

help:  ## list the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

demo: $(READY)  ## run the main job once: server, simulated upstream, worker, one streamed answer
	@$(BIN)/penstock demo $(ARGS)

test: $(READY)  ## run the tests, but for those of `check` and `chaos`
	$(BIN)/pytest -n 4 --dist loadgroup -m "not chaos and not operations" $(ARGS)

check: $(READY)  ## lint, format, type and operations checks
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(SPHINX) -b dummy . .docs/check
	$(BIN)/pytest -q -n 2 --dist loadgroup -m operations tests/contract

chaos: $(READY)  ## the long fault-injection runs, with their figures
	$(BIN)/pytest -m chaos -s $(ARGS)

bench: $(READY)  ## the benchmarks beside their rivals; results go to ops/bench/results
	$(BIN)/python -m ops.bench $(ARGS)

up: $(READY)  ## run server and worker until Ctrl-C
	@$(BIN)/penstock up $(ARGS)

docs: $(READY)  ## serve the documentation on http://127.0.0.1:8001, built anew as it changes
	$(BIN)/sphinx-autobuild --port 8001 --watch docs --ignore '*/.*' -c docs . .docs/html $(ARGS)

format: $(READY)  ## format the code
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

lock: $(READY)  ## pin the dependencies again, from pyproject.toml
	$(BIN)/pip install --quiet uv
	$(BIN)/uv pip compile pyproject.toml --all-extras --group dev --group docs --universal --python-version 3.11 \
		--generate-hashes --no-annotate --no-header --no-emit-index-url --output-file requirements.lock

sbom: $(READY)  ## bills of materials (CycloneDX): everything pinned, and the two images
	@mkdir -p $(SBOM)
	$(CYCLONEDX) -o $(SBOM)/penstock.cdx.json requirements.lock
	$(BIN)/python -m ops.sbom worker gateway | $(CYCLONEDX) -o $(SBOM)/image.cdx.json -
	$(BIN)/python -m ops.sbom worker flower | $(CYCLONEDX) -o $(SBOM)/flower.cdx.json -

clean:  ## remove what the targets made
	rm -rf $(VENV) .penstock .bench .docs $(SBOM) .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "penstock needs Python 3.11 or newer; name one with: make PYTHON=python3.12 ..." >&2; exit 2; }
	@$(PYTHON) -c 'import ensurepip' || \
		{ echo "this Python has no venv support; on Debian: apt-get install python3-venv" >&2; exit 2; }
	@echo "setting up $(VENV) (once, about a minute) ..." >&2
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps -e .
	@touch $@
