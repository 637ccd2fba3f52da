# `make` alone lists the commands. What needs more than a line lives in a script or a Python module.
SHELL := /bin/sh
.DEFAULT_GOAL := help
.PHONY: help setup run up env test check lint types imports test-unit test-integration test-e2e test-containers test-containers-full test-brokers faults soak mechanisms bench capacity fmt docs dashboards audit lock clean

BIN := .venv/bin
# Where `make run` puts the dataset; an absolute path, a relative one, az:// or s3://.
TO ?= ./dataset
# Rows of the built-in sample when `make run` is given no list.
ROWS ?= 2000
# How long `make soak` goes on; with SEED=n it repeats what a soak printed.
MINUTES ?= 10

PACKAGES := shared gateway scheduler downloader validator uploader pixcrawler
CODE := $(PACKAGES) tests infra docs

##@ Use
run: .local ## Build a dataset: the sample, or make run URLS=my.csv TO=./out
	@if [ -n "$(URLS)" ]; then "$(BIN)/pixcrawler" run "$(URLS)" --to "$(TO)"; \
	else "$(BIN)/pixcrawler" run --sample $(ROWS) --to "$(TO)"; fi

env: ## Make the passwords that docker-compose.yml asks for, in .env
	@sh infra/setup/env.sh

up: .local ## Start the whole system on this machine and stay until Ctrl-C
	@"$(BIN)/pixcrawler" up

##@ Check
# Most tests wait for processes and servers: three at a time keep two processors busy. Each has servers of its own.
test: lint types imports .dev ## Everything, as CI does: style, types, imports and all tests
	@"$(BIN)/pytest" -n 3 --dist loadfile

check: test ## The same

lint: .dev ## Style and formatting
	@"$(BIN)/ruff" format --check --quiet $(CODE) && "$(BIN)/ruff" check --quiet $(CODE)

types: .dev ## Strict types of all packages
	@"$(BIN)/mypy"

imports: .dev ## Who may import whom
	@"$(BIN)/lint-imports"

test-unit: .dev ## Unit and architecture tests: no servers
	@"$(BIN)/pytest" tests/unit tests/architecture

test-integration: .dev ## Against a real PostgreSQL, Redis and object stores
	@"$(BIN)/pytest" tests/contract tests/integration

test-e2e: .dev ## Whole jobs, and what happens when something breaks
	@"$(BIN)/pytest" tests/e2e

test-containers: .dev ## The system as containers: a job, a scaled stage, a killed container
	@"$(BIN)/pytest" tests/containers

test-containers-full: .dev ## The same, and what takes longer: servers restarted, containers without Compose
	@"$(BIN)/pytest" tests/containers -m "full or not full"

test-brokers: .dev ## RabbitMQ, pgbouncer and a Redis like Azure's, installed from Debian where they are missing
	@sh infra/setup/brokers.sh && "$(BIN)/pytest" -m brokers tests/brokers

faults: .dev ## The whole fault suite: every way in which something may die
	@"$(BIN)/pytest" -m "faults or not faults" tests/faults

soak: .dev ## Storms of faults for MINUTES=10, and a look at memory, files and connections after each
	@"$(BIN)/python" -m tests.faults.soak $(MINUTES) $(SEED)

mechanisms: .dev ## Take each mechanism away in a copy, and see a test go red
	@"$(BIN)/python" -m tests.faults.mechanisms

##@ Measure
bench: .dev ## Measure against img2dataset; BENCH_ARGS=--quick for ten minutes instead of half an hour
	@"$(BIN)/python" -m tests.bench $(BENCH_ARGS)

capacity: .dev ## Measure and simulate what the capacity guide says: a steady run, 1,000 streams, 10,000,000 images
	@"$(BIN)/python" -m tests.capacity $(CAPACITY_ARGS)

##@ Develop
setup: .dev ## Install everything for development into .venv

fmt: .dev ## Format the code and mend what can be mended
	@"$(BIN)/ruff" format $(CODE) && "$(BIN)/ruff" check --fix $(CODE)

docs: .docs ## Write the generated pages and build the documentation
	@"$(BIN)/python" docs/generate.py && "$(BIN)/sphinx-build" -W -q --keep-going docs docs/_build/html && echo "docs/_build/html/index.html"

dashboards: .dev ## Write Grafana's dashboards from infra/grafana/pages.py
	@"$(BIN)/python" -m infra.grafana.build

audit: .dev ## Known vulnerabilities of what is installed, and bills of materials in dist/sbom
	@"$(BIN)/python" infra/setup/audit.py

lock: .dev ## Renew infra/requirements from pyproject.toml
	@"$(BIN)/python" infra/setup/lock.py

clean: ## Remove what was built: .venv, caches, documentation
	@rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .schemathesis .import_linter_cache .bench docs/_build docs/autoapi dist

help:
	@awk -f infra/setup/help.awk $(MAKEFILE_LIST)

# What a command needs is installed once, and again when a lock changes.
.PHONY: .local .dev .docs
.local .dev .docs:
	@PYTHON="$(PYTHON)" sh infra/setup/install.sh $(subst .,,$@)
