# Two commands: `make demo` and `make test`. Both set everything up on a fresh machine.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: demo test test-all environments system-packages lint bench bench-label-only reproduce docs inputs \
	schema clean

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.core: $(BIN)/python pyproject.toml constraints.txt
	$(PIP) --editable .
	touch $@

$(VENV)/.dev: $(BIN)/python pyproject.toml constraints.txt
	$(PIP) torch==2.13.0
	$(PIP) --editable '.[dev]'
	touch $@ $(VENV)/.core

demo: $(VENV)/.core
	$(BIN)/memberscope demo --out demo-out

test: $(VENV)/.dev
	sh tests/system-packages.sh few
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile -m "not slow"

test-all: $(VENV)/.dev
	$(MAKE) --jobs 3 environments
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile

# What the tests need besides $(VENV); set up side by side under `make --jobs`.
environments: system-packages environment-clusters environment-servers environment-hosts

system-packages:
	sh tests/system-packages.sh

environment-servers environment-hosts: DEPENDENCIES := --no-deps
environment-%: $(BIN)/python
	PYTHON=$(PYTHON) sh tests/environment.sh $* $(DEPENDENCIES)

lint: $(VENV)/.dev
	$(BIN)/ruff format --check src tests benchmarks
	$(BIN)/ruff check src tests benchmarks
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.dev
	$(BIN)/python benchmarks/bootstrap.py
	$(BIN)/python benchmarks/scale.py
	$(BIN)/python benchmarks/audit_stages.py
	$(BIN)/python benchmarks/audit_stages.py --busy
	$(BIN)/python benchmarks/audit_stages.py 10000 779 10
	$(BIN)/python benchmarks/scale.py --features
	$(BIN)/python benchmarks/reading.py
	$(BIN)/python benchmarks/report_page.py
	$(BIN)/python benchmarks/startup.py
	$(BIN)/python benchmarks/forecast.py
	$(BIN)/python benchmarks/scoring.py
	$(BIN)/python benchmarks/searches.py
	$(BIN)/python benchmarks/gradients.py
	$(BIN)/python benchmarks/training.py w1
	$(BIN)/python benchmarks/training.py w2
	$(BIN)/python benchmarks/endpoint.py
	$(BIN)/python benchmarks/memguard.py speed
	$(BIN)/python benchmarks/dp_sgd.py speed
	$(BIN)/python benchmarks/defended_training.py
	$(BIN)/python benchmarks/guard_flood.py
	$(BIN)/python benchmarks/guard_load.py
	$(BIN)/python benchmarks/keyed_noise.py
	$(BIN)/python benchmarks/guard_state.py
	$(MAKE) bench-label-only

# What benchmarks compare with lives in an environment of its own.
.venv-bench/.done: benchmarks/requirements.txt constraints.txt pyproject.toml
	$(PYTHON) -m venv .venv-bench
	.venv-bench/bin/pip install --quiet --disable-pip-version-check --constraint constraints.txt torch==2.13.0
	.venv-bench/bin/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable . pillow -r benchmarks/requirements.txt
	touch $@

bench-label-only: .venv-bench/.done
	.venv-bench/bin/python benchmarks/label_only.py

reproduce: $(VENV)/.dev
	$(BIN)/python benchmarks/real_data.py
	$(BIN)/python benchmarks/location30.py
	$(BIN)/python benchmarks/coverage.py
	$(BIN)/python benchmarks/coverage_areas.py
	$(BIN)/python benchmarks/coverage_attainable.py
	$(BIN)/python benchmarks/compare_nulls.py
	$(BIN)/python benchmarks/controls.py 1000 100
	$(BIN)/python benchmarks/zero_leak.py scores
	$(BIN)/python benchmarks/zero_leak.py audits
	$(BIN)/python benchmarks/lira_location30.py
	$(BIN)/python benchmarks/fidelity.py
	$(BIN)/python benchmarks/distribution.py
	$(BIN)/python benchmarks/access.py
	$(BIN)/python benchmarks/white_box.py location30
	$(BIN)/python benchmarks/white_box.py cifar10
	$(BIN)/python benchmarks/label_only_real.py
	$(BIN)/python benchmarks/memguard.py location30
	$(BIN)/python benchmarks/dp_sgd.py mnist
	$(BIN)/python benchmarks/dp_sgd.py claimed
	$(BIN)/python benchmarks/defences.py location30 --write
	$(BIN)/python benchmarks/defences.py location30 selena:25:10
	$(BIN)/python benchmarks/defences.py fashion --write
	$(BIN)/python benchmarks/guard_leakage.py
	$(BIN)/python benchmarks/guard_rivals.py check
	$(BIN)/python benchmarks/guard_detection.py location30
	$(BIN)/python benchmarks/guard_detection.py adult
	$(BIN)/python benchmarks/guard_detection.py fashion
	$(BIN)/python benchmarks/guard_detection.py cifar10 alone

docs: $(VENV)/.dev
	$(BIN)/sphinx-build -W -q -b html docs docs/_build

# Runs the tests of files and models, and writes the page that lists them.
inputs: $(VENV)/.dev
	$(BIN)/python benchmarks/write_inputs.py

schema: $(VENV)/.dev
	$(BIN)/python benchmarks/write_schema.py
	$(BIN)/python benchmarks/write_configuration.py

clean:
	rm -rf $(VENV) .venv-clusters .venv-servers .venv-hosts .venv-bench demo-out docs/_build
