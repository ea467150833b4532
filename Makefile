# Two commands do everything on a fresh machine: make quickstart, make test.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3 python; do \
	$$p -c 'import sys, venv; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' >/dev/null 2>&1 && echo $$p && break; done)
OUTPUTS ?= outputs
export OUTPUTS # so that no recipe has to quote what is in it
PLACE = $(if $(filter-out outputs,$(OUTPUTS)),"paths.outputs=\"$$OUTPUTS\"")
SWEEP ?= quick
RUN := .venv/bin/python
ARGS ?=

.PHONY: help setup bench quickstart train sweep status ensemble compare predict report export prepare check-data annotate ui test check lock clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-11s %s\n", $$1, $$2}' Makefile

# The stamp is written last: an interrupted installation is begun again.
.venv/.installed: requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11, 3.12 or 3.13 with venv is needed, and none was found. Install one, or name it: make setup PYTHON=/path/to/python"; exit 1; }
	@$(PYTHON) --version
	test -x $(RUN) || $(PYTHON) -m venv .venv
	@if command -v uv >/dev/null; then \
		set -x; uv pip install -q --python $(RUN) --require-hashes -r requirements.lock \
			&& uv pip install -q --python $(RUN) --no-deps --no-build-isolation -e .; \
	else \
		set -x; $(RUN) -m pip install -q --disable-pip-version-check --require-hashes -r requirements.lock \
			&& $(RUN) -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .; \
	fi
	@touch $@

setup: .venv/.installed ## Make .venv and install exactly what requirements.lock names

quickstart: setup ## Set up, train a small network on the built-in phantoms, show results (under 5 minutes after the installation)
	$(RUN) -m liverattn.train +experiment=quickstart $(PLACE)

train: setup ## One fold run: make train ARGS="+experiment=resnet_240 protocol.fold=1"
	$(RUN) -m liverattn.train $(PLACE) $(ARGS)

sweep: setup ## Many fold runs: SWEEP=quick (3 small architectures, 3 folds; default), paper (Table 2, 27 fold runs) or lambda
	$(RUN) -m liverattn.train +sweep=$(SWEEP) $(PLACE) $(ARGS)

status: setup ## What has become of a sweep: done, running, failed and why, missing, time left
	$(RUN) -m liverattn.status $(PLACE) $(ARGS)

ensemble: setup ## Finished fold runs to Tables 2 and 3, Figure 5 and the mean of the best three: make ensemble ARGS="protocol=last"
	$(RUN) -m liverattn.ensemble $(PLACE) $(ARGS)

compare: setup ## Paired tests of architectures on the same folds: make compare ARGS="a=resnet_240 b=gap_240"
	$(RUN) -m liverattn.compare $(PLACE) $(ARGS)

predict: setup ## A bundle on new images: make predict ARGS="bundle=outputs/ensembles/ensemble/bundle images=/data/new"
	$(RUN) -m liverattn.predict $(PLACE) $(ARGS)

report: setup ## The worst failures of a run or an ensemble, and where it looks: make report ARGS="run=outputs/runs/..."
	$(RUN) -m liverattn.report $(ARGS)

export: setup ## A bundle for other programs: make export ARGS="bundle=outputs/ensembles/ensemble/bundle formats=[onnx]"
	$(RUN) -m liverattn.export $(PLACE) $(ARGS)

prepare: setup ## Check and prepare data: make prepare ARGS="data=aul data.root=..."
	$(RUN) -m liverattn.prepare $(PLACE) $(ARGS)

check-data: prepare ## The same: violations, near-duplicates, shortcuts and a contact sheet in outputs/checked/NAME/check.html

annotate: setup ## Box lesions on a local page: make annotate ARGS="data.root=/data/images" (or data.manifest=cases.csv)
	$(RUN) -m liverattn.annotate $(ARGS)

ui: setup ## Browse runs in MLflow's UI on this machine only
	MLFLOW_DISABLE_TELEMETRY=true MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false .venv/bin/mlflow ui --backend-store-uri "sqlite:///$$OUTPUTS/mlflow.db" --host 127.0.0.1 --port 5000

test: setup ## All tests (measured: 7 minutes on two cores)
	$(RUN) -m pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder $(ARGS)

bench: setup ## Time epochs, memory, what keeping it gains, the input pipeline, preparing, start-up and evidence, side by side (on real images where LIVERATTN_AUL names them)
	$(RUN) -m benchmarks.epoch +experiment=resnet18_240 backbone.weights=null tracking=none trainer.limit_batches=6 $(ARGS)
	$(RUN) -m benchmarks.overhead +experiment=resnet18_240 backbone.weights=null $(ARGS)
	$(RUN) -m benchmarks.memory +experiment=resnet_240 backbone.weights=null $(ARGS)
	$(RUN) -m benchmarks.kept +experiment=resnet18_240 backbone.weights=null trainer.max_epochs=4 $(ARGS)
	$(RUN) -m benchmarks.pipeline
	$(RUN) -m benchmarks.prepare
	$(RUN) -m benchmarks.startup
	$(RUN) -m benchmarks.evidence

check: setup ## Style, types, layers
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports

lock: ## Renew requirements.lock (needs uv); it holds hashes and no host names
	uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --generate-hashes --no-header -q --upgrade -o requirements.lock

clean: ## Remove the environment and caches; outputs stay
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist build
