# What to do with a checkout; `make` alone lists it. GNU make and a POSIX shell.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=
NEED := dockerd docker docker-registry

# Each recipe is one script that ends at its first error.
.ONESHELL:
.SHELLFLAGS := -euc
MAKEFLAGS += --no-print-directory

.PHONY: help setup servers test unit check demo bench docs lock clean

help: ## list what can be made
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-9s%s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

setup: $(VENV)/.done ## make .venv with `wharf` in it, from requirements.lock

$(VENV)/.done: pyproject.toml requirements.lock
	@if ! command -v $(PYTHON) >/dev/null || ! $(PYTHON) -c 'import ensurepip, venv' 2>/dev/null; then
		if [ "$$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
			echo "$(PYTHON) with its venv module is needed: on Debian, 'apt-get install python3-venv' as root; or name another one, 'make setup PYTHON=python3.12'" >&2
			exit 1
		fi
		export DEBIAN_FRONTEND=noninteractive
		apt-get update -q </dev/null
		apt-get install -q -y --no-install-recommends python3-venv </dev/null
	fi
	if ! $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
		echo "Python 3.11 or newer is needed, $(PYTHON) is $$($(PYTHON) -V 2>&1): name another one, 'make setup PYTHON=python3.12'" >&2
		exit 1
	fi
	$(BIN)/python -c 'import pip' 2>/dev/null || $(PYTHON) -m venv --clear $(VENV)
	echo "installing what requirements.lock says into $(VENV)"
	pip="$(BIN)/python -m pip --disable-pip-version-check --quiet --quiet install"
	$$pip --require-hashes -r requirements.lock
	$$pip --no-deps --no-build-isolation -e .
	touch $@

servers: ## install the Docker Engine and the registry by apt, where their binaries are missing
	@missing=
	for binary in $(NEED); do
		command -v $$binary >/dev/null || missing="$$missing $$binary"
	done
	[ -n "$$missing" ] || exit 0
	if [ "$$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
		echo "not in PATH:$$missing. Debian has them as docker.io, docker-registry and skopeo: 'make servers' as root installs them there" >&2
		exit 1
	fi
	# Packages must not start services of their own: what runs here is started by tests and demo, on loopback. Ours is known by its second line.
	policy=/usr/sbin/policy-rc.d
	if [ ! -e $$policy ] || grep -qs 'wharfinger' $$policy; then
		trap 'rm -f $$policy' EXIT
		trap 'exit 1' HUP INT TERM
		printf '#!/bin/sh\n# wharfinger: no service starts during make servers\nexit 101\n' >$$policy
		chmod 755 $$policy
	fi
	export DEBIAN_FRONTEND=noninteractive
	apt-get update -q </dev/null
	packages=
	for binary in $$missing; do
		case $$binary in
			dockerd) binary=docker.io ;;
			docker) binary=$$(apt-cache show docker-cli >/dev/null 2>&1 && echo docker-cli || echo docker.io) ;; # a package of its own since Debian 13
		esac
		packages="$$packages $$binary"
	done
	apt-get install -q -y --no-install-recommends -o DPkg::Lock::Timeout=120 $$packages </dev/null

test: NEED += openssl skopeo
test: setup servers ## run all tests, with a real engine and a real registry; ARGS="-k name" for some
	@$(BIN)/python -m tests.support.containerd_engine || echo "no engine with the containerd store could be had: its tests are skipped"
	$(BIN)/python -m pytest -n auto --dist worksteal --durations 12 $(ARGS)

unit: setup ## run the tests that need no servers, in seconds
	@$(BIN)/python -m pytest tests/domain tests/documents tests/store $(ARGS)

check: setup ## lint, format, types, and the arrows of the house
	@failed=
	for each in "ruff check" "ruff format --check" "mypy controller tests $(sort $(dir $(wildcard bench/*.py demo/*.py)))" "lint-imports"; do
		echo "== $$each"
		$(BIN)/$$each || failed="$$failed [$$each]"
	done
	[ -z "$$failed" ] || { echo "failed:$$failed" >&2; exit 1; }

demo: setup servers ## show it all on this machine, in .wharf/; ends by itself and leaves nothing running
	@$(BIN)/python -m demo $(ARGS)

bench: NEED += skopeo curl
bench: setup servers ## measure, side by side with skopeo
	@$(BIN)/python -m bench $(ARGS)

docs: setup ## make docs/desired-state.md from the models
	@$(BIN)/python -m controller.documents.reference >docs/.desired-state.md
	mv docs/.desired-state.md docs/desired-state.md

lock: setup ## lock the dependencies anew after pyproject.toml changed; ARGS=--upgrade takes newer ones
	@$(BIN)/uv --no-config --quiet pip compile pyproject.toml --extra dev --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" --output-file requirements.lock $(ARGS)
	if grep -n '://' requirements.lock; then
		echo "requirements.lock names an address: lock where no other package index is configured" >&2
		exit 1
	fi

clean: ## remove .venv, caches, and the data of demo and benchmarks
	@if grep -aqsF "$(CURDIR)/.wharf/" /proc/[0-9]*/cmdline; then
		echo "a server of the demo still runs with data in .wharf/: stop it first" >&2
		exit 1
	fi
	rm -rf --one-file-system .wharf .bench $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -prune -exec rm -rf {} +
