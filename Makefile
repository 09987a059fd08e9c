# SPDX-License-Identifier: GPL-3.0-or-later
# Every target does its own set-up. CORE=2.21 runs a target on that ansible-core (needs Python 3.12),
# ARGS='-k drain' is given to pytest and the benchmark.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help
.NOTPARALLEL:

CORE ?= 2.19
VENV := $(if $(filter 2.19,$(CORE)),.venv,.venv-$(CORE))
COLLECTIONS := $(CURDIR)/.build/collections
HERE := $(COLLECTIONS)/ansible_collections/zerodrop/rollout
CODE := $(wildcard plugins lab tests bench demo)

export CORE VENV
export ANSIBLE_COLLECTIONS_PATH := $(COLLECTIONS)
export PYTHONPATH := $(COLLECTIONS):$(CURDIR)
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH):/usr/sbin:/sbin
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup setup-2.21 setup-python format lint ruff mypy yamllint ansible-lint sanity unit fuzz verdict conformance integration fleets methods kills faults migrations canaries soak molecule test test-without-hosts test-on-hosts core-2.21 quick demo bench clean

help: ## This list
	@sed -nE 's/^([a-z0-9.-]+):[^#]*## (.*)/  \1\t\2/p' Makefile | expand -t 18

setup: ## All that the other targets need; quick when it is there
	@scripts/setup python balancers
	@python -m lab images

setup-2.21: ## The same with ansible-core 2.21, where a Python 3.12 exists
	@CORE=2.21 scripts/setup python

setup-python:
	@scripts/setup python

format: setup-python ## Write the code as the linters want it, where they know how
	@ruff check --fix $(CODE)
	@ruff format $(CODE)

lint: ruff mypy yamllint ansible-lint ## ruff, mypy (strict), yamllint, ansible-lint (production); make -k lint shows all at once

ruff: setup-python
	@scripts/step ruff ruff check --output-format concise $(CODE)
	@scripts/step 'ruff format' ruff format --check $(CODE)

mypy: setup-python
	@scripts/step mypy mypy $(addprefix $(HERE)/,$(filter plugins tests,$(CODE))) $(filter-out plugins tests,$(CODE))

yamllint: setup-python
	@scripts/step yamllint yamllint --strict .
	@scripts/step changelog antsibull-changelog lint

ansible-lint: setup-python
	@scripts/step ansible-lint ansible-lint -q --nocolor

sanity: setup-python ## ansible-test sanity, on every Python that is here
	@scripts/step 'ansible-test sanity ($(CORE))' scripts/sanity

unit: setup-python ## The tests that need nothing but Python
	@pytest -q tests/unit $(ARGS)

SECONDS_OF_FUZZING ?= 600

fuzz: setup-python ## atheris on every parser and on the names; SECONDS_OF_FUZZING=600
	@pip install -q -r requirements/fuzz.txt
	@python -m tests.fuzz $(SECONDS_OF_FUZZING)

verdict: setup-python ## The verdict's guarantees by simulation, in full; minutes on one core
	@python -m tests.verdict

conformance: ## Every driver against real balancers, in every version
	@scripts/setup python balancers
	@pytest -q tests/conformance $(ARGS)

.PHONY: tables docs
tables: setup-python ## Write docs/conformance.md anew from the markers of the tests
	@python -m tests.conformance.table

docs: setup-python ## The site of the documentation, in .build/docs/build/html; a warning is an error
	@scripts/setup docs
	@scripts/step docs scripts/docs

integration: setup ## The collection on the hosts of the lab
	@pytest -q tests/lab tests/integration $(ARGS)

fleets: setup ## Ten rollouts behind every kind of fleet, under load: HAProxy, nginx and both; ZERODROP_ROLLOUTS=10
	@ZERODROP_FLEETS=1 pytest -q tests/integration/test_fleets.py $(ARGS)

methods: setup ## The ready upgrade methods, and the roles drain and restore: all their tests on the hosts of the lab
	@ZERODROP_METHODS=all pytest -q tests/integration/test_container.py tests/integration/test_package.py tests/integration/test_package_dnf.py tests/integration/test_roles.py $(ARGS)

# `make kills TURN=240` begins no other test after so many seconds; the next one goes on where it ended.
kills: setup ## The controller dies and is told to end at many moments of a rollout, and docs/kills.md; ZERODROP_KILLS=12, TURN=240
	@ZERODROP_KILLS=$(or $(ZERODROP_KILLS),12) ZERODROP_PASSED=.build/kills/passed ZERODROP_TURN=$(TURN) pytest -q tests/integration/test_kills.py tests/integration/test_interrupted.py tests/integration/test_lease.py tests/integration/test_switch.py tests/integration/test_cancel.py tests/integration/test_rollback.py $(ARGS)
	@python -m tests.integration.kills

faults: setup ## One thing goes wrong at every step of a rollout, and docs/faults.md; hours. ZERODROP_FAULTS=50, TURN=240
	@ZERODROP_FAULTS=all pytest -q tests/integration/test_faults.py -k test_steps
	@ZERODROP_FAULTS=$(or $(ZERODROP_FAULTS),all) ZERODROP_PASSED=.build/faults/passed ZERODROP_TURN=$(TURN) pytest -q tests/integration/test_faults.py $(ARGS)
	@python -m tests.integration.fault_table

migrations: setup ## Data migrations, also of a PostgreSQL under load, zones and budgets, on the hosts of the lab
	@ZERODROP_MIGRATIONS=all pytest -q tests/integration/test_migrations.py tests/integration/test_database.py tests/integration/test_zones.py $(ARGS)

flips: setup ## Blue/green, sessions and dying controllers on the hosts of the lab, 40 flips in a row on every kind of fleet; ZERODROP_FLIPS=20
	@ZERODROP_FLIPS=$(or $(ZERODROP_FLIPS),20) pytest -q tests/integration/test_blue_green.py tests/integration/test_shared_hosts.py tests/integration/test_sessions.py tests/integration/test_slot_kills.py tests/integration/test_flips.py tests/conformance/test_flip.py $(ARGS)

page: setup-python ## The report's pages in a headless Chromium, which is installed where it can be
	@scripts/setup page
	@pytest -q tests/page $(ARGS)

canaries: setup ## Canaries behind HAProxy and nginx under 300 requests/s: good, bad, slow, unseen; ZERODROP_CANARIES=30
	@ZERODROP_CANARIES=$(or $(ZERODROP_CANARIES),30) pytest -q tests/integration/test_canary.py $(ARGS)

soak: setup ## 200 rollouts in a row, all strategies mixed, a million requests, and docs/soak.md; ZERODROP_SOAK=25 is a share
	@ZERODROP_SOAK=$(or $(ZERODROP_SOAK),200) pytest -q tests/integration/test_soak.py $(ARGS)
	@python -m tests.integration.soak

molecule: setup ## The roles' Molecule scenarios
	@pytest -q tests/molecule $(ARGS)

# A balancer's versions between its oldest and its newest take as long again: `make conformance` runs them.
# Tests on hosts wait most of their time, so all that needs none runs beside them. Not sanity beside sanity: both cores
# share the environments that ansible-test makes.
test: lint setup setup-2.21 ## Everything; each balancer in its oldest and newest version
	@ZERODROP_GENERATIONS=share scripts/beside 'exec $(MAKE) test-without-hosts' 'exec $(MAKE) test-on-hosts'

test-without-hosts: setup-python
	@nice -n 10 $(MAKE) sanity core-2.21 unit
	@scripts/setup page
	@pytest -q tests/page tests/conformance

test-on-hosts: setup
	@pytest -q tests/lab tests/integration tests/molecule

core-2.21: setup-2.21
	@if [ -x .venv-2.21/bin/pytest ]; then $(MAKE) CORE=2.21 sanity quick; fi

quick: setup-python
	@scripts/step 'unit tests ($(CORE))' pytest -q tests/unit

demo: setup-python ## A fleet upgraded under load, in the lab; VERSION=broken is refused, KEEP=1 leaves it up
	@python -m demo $(if $(KEEP),--keep) $(VERSION)

bench: setup ## Wall time and lost requests, ours against the floor and the peers
	@python -m bench $(ARGS)

clean: ## Remove what the targets made here
	@rm -rf .build .cache .venv .venv-2.21 .mypy_cache .ruff_cache .hypothesis .ansible tests/output
