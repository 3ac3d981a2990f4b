# The workshop. `make help` lists what it does; CONTRIBUTING.md says when to use which.
#
# Needs make, git and python3 with venv; all else is installed by it: Python packages from the lock files, with their
# hashes, into a virtual environment, and PostgreSQL, Redis and wrk for the tests from Debian's packages where allowed.
# pip's own settings (PIP_* and pip.conf) are respected. Paths are relative, so that a checkout may have spaces in its.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.SUFFIXES:

# With it each process that the tests start would compile all of the code again.
unexport PYTHONDONTWRITEBYTECODE

PYTHON ?= python3
# The interpreter that PYTHON is: its version, and a number that tells two builds of one version apart.
INTERPRETER := $(shell $(PYTHON) -c 'import os, platform, sys, zlib; \
	print(platform.python_version() + sys.abiflags, zlib.crc32(os.fsencode(os.path.realpath(sys.executable))))')
# `python3` has .venv, and each interpreter that is named has an environment of its own, such as .venv-3.13.0.
VENV := .venv$(if $(filter-out python3,$(PYTHON)),-$(firstword $(INTERPRETER)))
BIN := $(VENV)/bin
# Lines and branches that the tests must run, in percent.
COVERED := 96
# Wheels only: building a source package would fetch build tools that no lock file names.
PIP_INSTALL := $(BIN)/python -m pip install --disable-pip-version-check --quiet
PIP_LOCKED := $(PIP_INSTALL) --require-hashes --only-binary :all:
UV_LOCKED := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-emit-find-links

##@ Use
.PHONY: run
run: $(VENV)/.run  ## start everything in one process, Plivo simulated; ARGS="--bind 127.0.0.1:8001"
	$(BIN)/smsapi dev $(ARGS)

.PHONY: test
test: services $(VENV)/.dev  ## run the tests on real PostgreSQL and Redis; ARGS="-k name" chooses
	$(BIN)/python -m pytest $(ARGS)

# The time limit of a test is for ordinary sizes.
.PHONY: test-all
test-all: services $(VENV)/.dev  ## the same with many more made-up examples and full sizes; takes an hour
	SMSAPI_TEST_EXAMPLES=20 $(BIN)/python -m pytest --timeout=1800 $(ARGS)

# pytest's closing line stays the last one: the report is shown only where it falls below the floor.
.PHONY: coverage
coverage: services $(VENV)/.dev  ## run the tests, and fail where too few branches are run
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest $(ARGS)
	@$(BIN)/coverage combine --quiet
	@$(BIN)/coverage report --format=total --fail-under=$(COVERED) >/dev/null || { $(BIN)/coverage report; \
		echo "Fewer than $(COVERED) % of the lines and branches were run." >&2; exit 1; }

.PHONY: lint style form types layers
lint: style form types layers  ## check style, format, types and layers
style: $(VENV)/.dev
	$(BIN)/ruff check .
form: $(VENV)/.dev
	$(BIN)/ruff format --check .
types: $(VENV)/.dev
	$(BIN)/mypy
layers: $(VENV)/.dev
	$(BIN)/lint-imports

.PHONY: format
format: $(VENV)/.dev  ## rewrite the code in the house format
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .

.PHONY: bench
bench: services $(VENV)/.dev  ## run the benchmarks; ARGS="accept" chooses, ARGS=--help shows options
	$(BIN)/python -m benchmarks $(ARGS)

.PHONY: chaos
chaos: services $(VENV)/.dev  ## break everything under load, for a quarter of an hour, and count; ARGS="--only killed"
	$(BIN)/python -m tests.chaos $(ARGS)

.PHONY: wheel
wheel: $(VENV)/.run  ## build dist/smsapi-….whl, to install it elsewhere
	$(BIN)/python -m pip wheel --disable-pip-version-check --quiet --no-deps --no-build-isolation --wheel-dir dist .

##@ Keep
.PHONY: openapi
openapi: $(VENV)/.run  ## write openapi.yaml from the code
	$(BIN)/smsapi openapi > openapi.yaml.new
	mv openapi.yaml.new openapi.yaml

.PHONY: lock
lock: $(BIN)/uv  ## solve the dependencies again; ARGS=--upgrade takes newer ones
	$(UV_LOCKED) $(ARGS) --extra sentry --extra rabbitmq pyproject.toml -o requirements.lock
	$(UV_LOCKED) $(ARGS) --extra sentry --extra rabbitmq pyproject.toml --group dev -o requirements-dev.lock
	printf '%s\n' hatchling editables | $(UV_LOCKED) $(ARGS) -c requirements-dev.lock - -o requirements-build.lock

.PHONY: clean
clean:  ## remove the virtual environments and all that was made
	rm -rf .venv .venv-* .hypothesis .mypy_cache .ruff_cache .import_linter_cache .grimp_cache dist .coverage .coverage.*
	find smsapi tests benchmarks -type d -name __pycache__ -prune -exec rm -rf {} +

.PHONY: help
help:  ## show this
	@awk 'BEGIN { FS = ":.*## " } /^##@/ { print "\n" substr($$0, 5) } \
		/^[a-z-]+:.*## / { sub(/:.*/, "", $$1); printf "  make %-9s %s\n", $$1, $$2 }' Makefile

# Named after the interpreter, so that no environment outlives the one that it was made with: where `python3` has become
# another, .venv is made again. It comes last: where it is, the environment is whole.
MADE := $(VENV)/.made-by-$(subst $() ,-,$(INTERPRETER))
$(MADE):
	$(PYTHON) -m venv --clear $(VENV)
	touch $@

$(BIN)/uv: $(MADE)
	$(PIP_INSTALL) uv

# The project itself is built with what requirements-build.lock names; isolation would fetch whatever is newest.
$(VENV)/.run: requirements.lock requirements-build.lock pyproject.toml $(MADE)
	$(PIP_LOCKED) -r requirements.lock
	$(PIP_LOCKED) -r requirements-build.lock
	$(PIP_INSTALL) --no-deps --no-build-isolation --editable .
	touch $@

# All that requirements.lock has is in requirements-dev.lock too, in the same version.
$(VENV)/.dev: requirements-dev.lock $(VENV)/.run
	$(PIP_LOCKED) -r requirements-dev.lock
	touch $@

# SMSAPI_TEST_DATABASE_URL and SMSAPI_TEST_REDIS_URL stand in for servers that are not installed here. It asks the
# machine's own python3, so that whoever has to install something is told at once, before anything else is fetched.
.PHONY: services
services:
	@missing="$$($(PYTHON) -m tests.services missing)" || exit 1; \
	helpful="$$($(PYTHON) -m tests.services helpful)" || exit 1; \
	if [ -z "$$missing$$helpful" ]; then exit 0; \
	elif [ "$$(id -u)" = 0 ]; then as_root=; \
	elif sudo -n true 2>/dev/null; then as_root="sudo -n"; \
	elif [ -z "$$missing" ]; then exit 0; \
	else \
		echo "The tests need these Debian packages: $$missing. Install them:" >&2; \
		echo "    sudo apt-get install --no-install-recommends $$missing" >&2; \
		echo "SMSAPI_TEST_DATABASE_URL and SMSAPI_TEST_REDIS_URL may name servers elsewhere that the tests may empty." >&2; \
		exit 1; \
	fi; \
	$(INSTALL_PACKAGES)

# What is only helpful (promtool, for the alert rules) is installed where that can be had at once, and is no reason to fail.
# The policy keeps Debian from starting the servers that it installs: the tests start their own, and in a container
# or a chroot the attempt would fail the installation. A policy that is already there is left as it is.
define INSTALL_PACKAGES
command -v apt-get >/dev/null || { [ -n "$$missing" ] || exit 0; \
	echo "Not Debian: install $$missing by hand." >&2; exit 1; }; \
policy=/usr/sbin/policy-rc.d; \
if [ ! -e $$policy ]; then \
	trap '$$as_root rm -f '$$policy EXIT; \
	trap 'exit 1' HUP INT TERM; \
	printf '#!/bin/sh\nexit 101\n' | $$as_root tee $$policy >/dev/null; \
	$$as_root chmod 755 $$policy; \
fi; \
apt="$$as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=600"; \
if [ -n "$$missing" ]; then \
	$$apt update && $$apt install -y --no-install-recommends $$missing >/dev/null </dev/null && \
	missing="$$($(PYTHON) -m tests.services missing)" && test -z "$$missing" || exit 1; \
fi; \
if [ -n "$$helpful" ]; then \
	$$apt install -y --no-install-recommends $$helpful >/dev/null 2>&1 </dev/null || \
	echo "Not installed: $$helpful. The tests that need it are left out." >&2; \
fi
endef
