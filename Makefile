# Everything a change needs, on a machine that has make and Python 3.11 or
# later: each target sets up what it uses under .venv, once.
#
#   make PYTHON=python3.12 test    with another Python
#   make PYTEST_ARGS='-x -k nova' unit

PYTHON ?= python3
PYTEST_ARGS ?=
VENV := .venv
BIN := $(VENV)/bin
PYTEST := $(BIN)/python -m pytest $(PYTEST_ARGS)
PIP := $(BIN)/python -m pip
CONSTRAINTS := tools/upper-constraints.txt
DEMO := --editable '.[audit,demo,sql,statsd,testing]'
TEMPEST := -r tests/tempest/requirements.txt
TEST := $(DEMO) -r test-requirements.txt \
	-r tests/functional/real-requirements.txt -r tests/cloud/requirements.txt \
	-r tests/soak/requirements.txt
RELEASES := $(patsubst tools/releases/%.txt,%,$(wildcard tools/releases/*.txt))
RELEASE_VENVS := .venv-releases

# All the releases run on 3.11, and some of what 22 needs is there as source
# only. `make test` leaves 22 out where that will not do, but never in CI.
RELEASE_PYTHON := $(shell for python in $(PYTHON) python3.11; do \
    $$python tools/can_build.py 3.11 2>/dev/null && echo $$python && break; \
    done)
OLDEST := $(if $(RELEASE_PYTHON)$(CI),cinder-22,without-cinder-22)

.NOTPARALLEL:
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
.PHONY: help demo test lint mypy unit functional differential soak packaging \
	chaos test-releases $(RELEASES) without-cinder-22 \
	cloud cloud-down test-cloud flows tempest bench genconfig constraints pins clean

# pbr reads the version from git; a tree that came without its history gets
# one that cannot be mistaken for a release.
ifneq ($(shell git rev-parse --verify HEAD 2>/dev/null >/dev/null && echo yes),yes)
export PBR_VERSION ?= 0.0.0
endif

help:  ## Say what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-13s %s\n", $$1, $$2}' \
	    $(MAKEFILE_LIST)

demo: $(VENV)/demo.stamp  ## Show a forged attachment, and the guard refusing it
	$(BIN)/attachguard demo

test: lint mypy unit functional differential soak packaging $(OLDEST)  ## Run all the checks and tests

lint: $(VENV)/test.stamp  ## Check the style
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/python -m flake8

mypy: $(VENV)/test.stamp  ## Check the types
	$(BIN)/mypy attachguard tests benchmarks

unit: $(VENV)/test.stamp  ## Run the unit tests
	$(PYTEST) tests/unit tests/tempest

functional: $(VENV)/test.stamp  ## Run the tests over HTTP, stub and real services
	$(PYTEST) tests/functional

differential: $(VENV)/test.stamp  ## Compare 20,000 requests with Cinder's own reading
	$(PYTEST) tests/differential

soak: $(VENV)/test.stamp  ## Account for every request on real servers, while Nova fails
	$(PYTEST) tests/soak

packaging: $(VENV)/test.stamp  ## Build the wheel, and use it where Cinder is not
	$(PYTEST) tests/packaging

chaos: $(VENV)/test.stamp  ## Test each failure of Nova, Keystone and the policy file
	$(PYTEST) tests/chaos

cloud: $(VENV)/test.stamp  ## Start a whole real cloud, guarded, and say how to log in
	$(BIN)/python -m tests.cloud up

cloud-down:  ## Stop it, and remove every trace of it
	test ! -d .cloud/dev || $(BIN)/python -m tests.cloud down

test-cloud: $(VENV)/test.stamp  ## Try every flow of Nova on a whole real cloud
	$(PYTEST) tests/cloud

flows: $(VENV)/test.stamp  ## The same, writing the documentation's table anew
	$(PYTEST) tests/cloud/test_flows.py --write-table

tempest: $(VENV)/tempest.stamp  ## Run Tempest on a whole real cloud, and compare
	$(BIN)/python -m tests.tempest $(TEMPEST_ARGS)

test-releases: $(RELEASES)  ## Run the tests on every release in use

$(RELEASES): %: $(RELEASE_VENVS)/%.stamp
	for tests in unit functional differential; do \
	    $(RELEASE_VENVS)/$@/bin/python -m pytest $(PYTEST_ARGS) \
	        -m 'not newest' tests/$$tests || exit 1; \
	done

without-cinder-22:
	@echo 'Not tested on Cinder 22: no Python 3.11 that can build modules in C.'

bench: $(VENV)/test.stamp  ## Measure what the guard and an audit cost, beside their peers
	$(BIN)/python -m benchmarks --check

genconfig: $(VENV)/test.stamp  ## Write the samples in etc/ anew
	$(BIN)/oslo-config-generator \
	    --config-file tools/config/attachguard-config-generator.conf
	$(BIN)/oslopolicy-sample-generator \
	    --config-file tools/config/attachguard-policy-generator.conf
	$(BIN)/python tools/generate_preset.py
	$(BIN)/python tools/generate_classes.py

constraints:  ## Take the newest release of everything there is
	$(PYTHON) -m venv --clear $(VENV)
	$(PIP) install -qq $(TEST) $(TEMPEST)
	sed -i '/^[^#]/d' $(CONSTRAINTS)
	$(PIP) freeze --exclude-editable >> $(CONSTRAINTS)

pins:  ## Choose anew what each release is tested with
	$(PYTHON) -m venv --clear $(RELEASE_VENVS)/pins
	$(RELEASE_VENVS)/pins/bin/python -m pip install -qq uv
	$(RELEASE_VENVS)/pins/bin/python tools/make_release_pins.py \
	    --uv $(RELEASE_VENVS)/pins/bin/uv

clean:  ## Remove everything that make, tox and builds leave behind
	for cloud in $(wildcard .cloud/dev .cloud/test .cloud/tempest); do \
	    $(BIN)/python -m tests.cloud --directory $$cloud down; done
	rm -rf $(VENV) $(RELEASE_VENVS) .cloud .tox build dist cover doc/build \
	    releasenotes/build \
	    doc/source/_static/*.sample
	rm -rf *.egg-info AUTHORS ChangeLog .coverage .coverage.*
	rm -rf .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find attachguard benchmarks tests -name __pycache__ -prune -exec rm -rf {} +

# The stamps say what is installed; whatever decides that makes them stale.
$(VENV)/venv.stamp: Makefile pyproject.toml requirements.txt setup.cfg \
		setup.py $(CONSTRAINTS)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	    echo '$(PYTHON) is not Python 3.11 or later: make PYTHON=...' >&2; \
	    exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
	$(PIP) install -qq 'pip>=24'
	@touch $@

$(VENV)/demo.stamp: $(VENV)/venv.stamp
	$(PIP) install -qq -c $(CONSTRAINTS) $(DEMO)
	@touch $@

$(VENV)/test.stamp: $(VENV)/demo.stamp test-requirements.txt \
		tests/functional/real-requirements.txt tests/cloud/requirements.txt \
		tests/soak/requirements.txt
	$(PIP) install -qq -c $(CONSTRAINTS) $(TEST)
	@touch $@

$(RELEASE_VENVS)/%.stamp: tools/releases/%.txt Makefile pyproject.toml \
		requirements.txt setup.cfg setup.py
	@[ -n '$(RELEASE_PYTHON)' ] || { \
	    echo '$* needs Python 3.11, its headers and a C compiler: see' \
	        'bindep.txt, or make PYTHON=...' >&2; \
	    exit 1; }
	$(RELEASE_PYTHON) -m venv --clear $(RELEASE_VENVS)/$*
	$(RELEASE_VENVS)/$*/bin/python -m pip install -qq 'pip>=24'
	$(RELEASE_VENVS)/$*/bin/python -m pip install -qq -r $< $(DEMO)
	@touch $@

$(VENV)/tempest.stamp: $(VENV)/test.stamp tests/tempest/requirements.txt
	$(PIP) install -qq -c $(CONSTRAINTS) $(TEMPEST)
	@touch $@
