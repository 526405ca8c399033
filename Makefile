# Two commands: `make demo` and `make test`. Both set everything up on a fresh machine.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: demo test test-all environments system-packages lint bench bench-label-only reproduce docs inputs \
	schema package check-versions clean

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
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder -m "not slow"

test-all: $(VENV)/.dev
	$(MAKE) --jobs 3 environments
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

# What the tests need besides $(VENV); set up side by side under `make --jobs`.
environments: system-packages environment-clusters environment-servers environment-hosts \
	environment-registries environment-texts

system-packages:
	sh tests/system-packages.sh

environment-servers environment-hosts environment-registries environment-texts: DEPENDENCIES := --no-deps
environment-%: $(BIN)/python
	PYTHON=$(PYTHON) sh tests/environment.sh $* $(DEPENDENCIES)

lint: $(VENV)/.dev
	$(BIN)/ruff format --check src tests benchmarks
	$(BIN)/ruff check src tests benchmarks
	$(BIN)/mypy
	$(BIN)/lint-imports

# Each figure with an aim is printed with whether it holds, and all of them again at the end.
bench: export BENCH_FIGURES = $(CURDIR)/.bench-figures.jsonl
bench: $(VENV)/.dev
	rm -f $(BENCH_FIGURES)
	$(BIN)/python benchmarks/bootstrap.py
	$(BIN)/python benchmarks/scale.py
	$(BIN)/python benchmarks/audit_stages.py
	$(BIN)/python benchmarks/audit_stages.py --busy
	$(BIN)/python benchmarks/audit_stages.py 10000 779 10
	$(BIN)/python benchmarks/scale.py --features
	$(BIN)/python benchmarks/reading.py
	$(BIN)/python benchmarks/stored_references.py
	$(BIN)/python benchmarks/report_page.py
	$(BIN)/python benchmarks/startup.py
	$(BIN)/python benchmarks/forecast.py
	$(BIN)/python benchmarks/scoring.py
	$(BIN)/python benchmarks/text_scoring.py
	$(BIN)/python benchmarks/searches.py
	$(BIN)/python benchmarks/effort.py time
	$(BIN)/python benchmarks/effort.py references
	$(BIN)/python benchmarks/effort.py pipeline
	$(BIN)/python benchmarks/effort.py pipeline --busy
	$(BIN)/python benchmarks/gradients.py
	$(BIN)/python benchmarks/training.py w1
	$(BIN)/python benchmarks/training.py w2
	$(BIN)/python benchmarks/endpoint.py
	$(BIN)/python benchmarks/text_endpoint.py
	$(BIN)/python benchmarks/memguard.py speed
	$(BIN)/python benchmarks/dp_sgd.py speed
	$(BIN)/python benchmarks/defended_training.py
	$(BIN)/python benchmarks/guard_flood.py
	$(BIN)/python benchmarks/guard_load.py
	$(BIN)/python benchmarks/keyed_noise.py
	$(BIN)/python benchmarks/guard_state.py
	$(MAKE) bench-label-only
	$(BIN)/python benchmarks/aims.py $(BENCH_FIGURES)

# What benchmarks compare with lives in an environment of its own.
.venv-bench/.done: benchmarks/requirements.txt constraints.txt pyproject.toml
	$(PYTHON) -m venv .venv-bench
	.venv-bench/bin/pip install --quiet --disable-pip-version-check --constraint constraints.txt torch==2.13.0
	.venv-bench/bin/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable . pillow -r benchmarks/requirements.txt
	touch $@

bench-label-only: .venv-bench/.done
	.venv-bench/bin/python benchmarks/label_only.py

reproduce: $(VENV)/.dev .venv-bench/.done environment-texts
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
	.venv-bench/bin/python benchmarks/text_smollm.py
	$(BIN)/python benchmarks/text_smollm.py server

docs: $(VENV)/.dev
	$(BIN)/sphinx-build -W -q -b html docs docs/_build

# Runs the tests of files and models, and writes the page that lists them.
inputs: $(VENV)/.dev
	$(BIN)/python benchmarks/write_inputs.py

schema: $(VENV)/.dev
	$(BIN)/python benchmarks/write_schema.py
	$(BIN)/python benchmarks/write_configuration.py
	$(BIN)/python benchmarks/write_reference.py

# The wheel and the sdist, in dist/.
package: $(VENV)/.dev
	rm -rf dist
	$(BIN)/python -m hatchling build

# Whether the core and each extra resolve to wheels for each version of Python; asks the package index, and installs nothing.
VERSIONS := 3.11 3.12 3.13 3.14
EXTRAS := torch dp parquet onnx boost hf dask ray http guard otel plot docs
check-versions: package
	@for version in $(VERSIONS); do for extra in core $(EXTRAS); do \
		wheel=$$(ls dist/memberscope-*.whl); [ $$extra = core ] || wheel="$$wheel[$$extra]"; \
		if $(BIN)/pip install --quiet --disable-pip-version-check --dry-run --ignore-installed --only-binary :all: \
			--python-version $$version --target build/none "$$wheel"; \
		then echo "Python $$version: $$extra resolves"; else echo "Python $$version: $$extra does not resolve"; failed=1; fi; \
	done; done; [ -z "$$failed" ]

clean:
	rm -rf $(VENV) .venv-clusters .venv-servers .venv-hosts .venv-registries .venv-texts .venv-bench demo-out docs/_build
