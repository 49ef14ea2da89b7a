# One place for every command; CI runs the same ones.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
FOLDER ?= udfs
STACK ?= webfoot
ARCHITECTURE ?= arm64
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help serve test check check-slow check-offline check-browser check-security lint types format deploy-aws deploy-aws-zip build-aws-zip \
	bench lock clean

help: ## List the commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 16

serve: $(VENV)/.run ## Serve the UDFs of $(FOLDER)/ on http://localhost:8000, live on every save
	$(BIN)/webfoot serve $(FOLDER) --reload

test: $(VENV)/.dev ## Run the tests, on every core
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile

check: $(VENV)/.dev lint types test ## Everything that must pass before a change lands

check-slow: $(VENV)/.dev ## The large, repeated and external checks (CI runs them too)
	tests/database/install-postgres
	tests/deploy/install-prometheus
	PYTHON=$(BIN)/python tests/aws/install-emulator
	PYTHON=$(BIN)/python tests/aws/install-translator
	tests/aws/install-runtime
	$(BIN)/python -m pytest -m slow --timeout 900

check-offline: $(VENV)/.dev ## The tests where there is no network but loopback (Linux)
	unshare $$([ $$(id -u) = 0 ] || echo --map-root-user) --net sh -c 'ip link set lo up && \
		exec $(BIN)/python -m pytest --numprocesses auto --dist loadfile'

check-browser: $(VENV)/.dev ## The pages, and DuckDB-Wasm, in a real Chromium (CI runs them too)
	tests/browser/install-chromium
	$(BIN)/python -m pytest -m browser --timeout 300

check-security: $(VENV)/.dev ## Bandit over the code, and known holes in what is locked (CI runs them too)
	$(BIN)/bandit --quiet --recursive --configfile pyproject.toml app
	.ci/audit $(BIN)/pip-audit requirements*.txt

lint: $(VENV)/.dev ## Formatting and lint
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(VENV)/.dev ## Strict type check
	$(BIN)/mypy

format: $(VENV)/.dev ## Format and mend what lint can mend
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

deploy-aws: ## Put the folder udfs/ on AWS Lambda; asks for what it needs (deploy/README.md)
	sam build --template deploy/aws/template.yaml
	sam deploy --guided --stack-name $(STACK) --capabilities CAPABILITY_IAM --resolve-image-repos \
		$(if $(REGION),--region $(REGION))

deploy-aws-zip: build-aws-zip ## The same as a zip, without an image (deploy/README.md)
	sam deploy --guided --template-file dist/webfoot-lambda-$(ARCHITECTURE).yaml --stack-name $(STACK) \
		--capabilities CAPABILITY_IAM $(if $(REGION),--region $(REGION))

build-aws-zip: ## Only make the zip and its template, in dist/; by the Python that Lambda is to have
	$(PYTHON) -m deploy.aws.zip --architecture $(ARCHITECTURE) --udfs $(FOLDER) $(if $(WITH),--with $(WITH))

bench: $(VENV)/.dev ## Every benchmark, side by side with its peers
	$(BIN)/python -m bench

lock: $(VENV)/.dev ## Renew the hash-locked requirements
	$(BIN)/uv pip compile pyproject.toml --extra examples --extra aws --extra oidc --extra otel --group build --group dev $(UV_LOCK) -o requirements-dev.txt
	$(BIN)/uv pip compile pyproject.toml --extra examples --extra oidc --extra otel --group build -c requirements-dev.txt $(UV_LOCK) -o requirements.txt
	$(BIN)/uv pip compile pyproject.toml --extra aws --extra oidc --extra otel --group build -c requirements-dev.txt $(UV_LOCK) -o requirements-aws.txt

UV_LOCK := --upgrade --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --no-annotate --no-header

clean: ## Remove the environment and everything generated
	rm -rf $(VENV) build dist .coverage .mypy_cache .pytest_cache .ruff_cache .hypothesis

# The stamps: an environment is made again when what it is made of has changed.
$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.run: $(VENV)/bin/python requirements.txt pyproject.toml
	$(BIN)/pip install --quiet --require-hashes --requirement requirements.txt
	$(BIN)/pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/.run requirements-dev.txt
	$(BIN)/pip install --quiet --require-hashes --requirement requirements-dev.txt
	@touch $@
