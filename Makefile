# Holdfast: `make help` lists the targets.
#
# Needs make and Python 3.11, 3.12 or 3.13, nothing else. The environment in .venv is made once from
# requirements.lock (every package by its hash) and made again when that file changes.

PYTHON ?= $(shell for each in python3 python3.13 python3.12 python3.11; do \
	if $$each -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; \
	then echo $$each; break; fi; done)

BIN := .venv/bin
LOCKED := .venv/.locked
READY := .venv/.ready
# What the tests of the GPU path are held to: TensorRT's bindings and pycuda (needs gcc and g++; without, they are skipped).
BINDINGS := build/.bindings

# Rooms that must be covered whole, line and branch; the floor for the rest stands in pyproject.toml.
PURE := appliance/deployment.py,appliance/audit/tree.py,appliance/drift/distance.py,runtime/router.py

# onnxruntime's Linux wheels look up a telemetry host unless this is set before the import.
export ORT_DISABLE_TELEMETRY := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# The shell's own Python settings must not reach into the environment.
unexport PYTHONPATH PYTHONHOME

.DEFAULT_GOAL := help
.PHONY: help demo test check bench bench-peers conformance reliability fuzz gpu-check docs protocol lock clean

help: ## list the targets
	@echo "Holdfast: an on-prem inference appliance. Targets:"
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 20

demo: $(READY) ## the main job on this machine: pack, build, serve, swap, audit, drift
	@$(BIN)/python examples/demo.py

test: check $(BINDINGS) ## everything CI runs: `make check`, then the whole suite with coverage
	$(BIN)/python -m pytest --cov --numprocesses auto --maxprocesses 4 --dist loadfile
	$(BIN)/coverage report --include=$(PURE) --fail-under=100

check: $(READY) ## format, lint, types, import contracts, lock, generated files, house rules
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python packaging/lock.py --check
	$(BIN)/python docs/generate.py --check
	$(BIN)/python -m pytest -q tests/test_house.py

bench: $(READY) ## kernels, engines and serving, each against the best to compare with (6 min)
	@$(BIN)/python tests/bench/run.py

bench-peers: $(READY) ## serving beside Triton, PyTriton, MLServer, LitServe and BentoML, installed into build/peers
	@$(BIN)/python tests/bench/environments.py
	@$(BIN)/python tests/bench/run.py --peers --output build/bench-peers.json

conformance: $(READY) ## onnx's backend tests and mutated files, all of them (25 min); writes docs/conformance.md
	@$(BIN)/python tests/contract/conformance.py
	@$(BIN)/python tests/contract/fuzz.py --cases 600 --write
	@$(BIN)/python tests/contract/fuzz.py --cases 4000 --seed 1000 --in-process --write

reliability: $(READY) ## power cuts, failing calls, tampering, kills (45 min); writes docs/reliability.md
	@$(BIN)/python tests/simulation/reliability.py --write

fuzz: $(READY) ## mutants for every parser of foreign bytes, for SECONDS (600); prints its seeds, SEED=N repeats one
	@$(BIN)/python tests/fuzz/run.py --seconds $(or $(SECONDS),600) $(if $(SEED),--seed $(SEED))

gpu-check: $(READY) ## what can be checked of a GPU here, and what was not
	@$(BIN)/python tests/hardware/gpu_check.py

docs: $(READY) ## write the tables in docs/ from the code
	$(BIN)/python docs/generate.py

protocol: $(READY) ## write the stubs of runtime/protocol/*.proto
	$(BIN)/python -m grpc_tools.protoc -I. --python_out=. --pyi_out=. --grpc_python_out=. \
		runtime/protocol/evidence.proto runtime/protocol/control.proto

lock: ## resolve pyproject.toml into requirements.lock, from a package index (UPGRADE=1: newer versions)
	$(PYTHON) packaging/lock.py $(if $(UPGRADE),--upgrade)

clean: ## remove the environment and caches; ./holdfast-data (models, audit log, keys) stays
	rm -rf .venv build *.egg-info .coverage .coverage.* .mypy_cache .ruff_cache .pytest_cache \
		.import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# --no-build-isolation: setuptools comes from the lock, so that no unpinned package is ever fetched.
$(READY): $(LOCKED) pyproject.toml
	@PYTHONWARNINGS=ignore $(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

$(BINDINGS): packaging/bindings.lock packaging/bindings.py packaging/pycuda_wheel.py | $(READY)
	@mkdir -p build
	@if [ "$$(uname -sm)" != "Linux x86_64" ] || ! command -v g++ >/dev/null; then \
		echo "The tests of the GPU path need Linux on x86-64, gcc and g++: those that do are skipped."; \
	else \
		echo "Installing TensorRT's bindings and building pycuda for the tests: once, a minute or two." && \
		$(BIN)/python packaging/bindings.py && $(BIN)/python packaging/pycuda_wheel.py --quick; \
	fi
	@touch $@

$(LOCKED): requirements.lock
	@$(if $(PYTHON),:,echo "Holdfast needs Python 3.11, 3.12 or 3.13, and none was found." \
		"Install one, or name it: make demo PYTHON=/path/to/python3.12" >&2; exit 1)
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || \
		{ echo "Holdfast needs Python 3.11, 3.12 or 3.13; $(PYTHON) is no such one." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
		{ echo "$(PYTHON) has no venv module; on Debian: apt install python3-venv" >&2; exit 1; }
	@echo "Making the environment in .venv from requirements.lock: once, about a minute and 1 GB."
	@$(PYTHON) -m venv --clear .venv
	@$(BIN)/python -m pip install --quiet --require-hashes --only-binary :all: -r requirements.lock
	@touch $@
