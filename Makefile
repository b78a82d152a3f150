# What a change needs, on a machine with make and Python 3.11 or later. Each
# target first sets up the environment that it uses, under .venv.
#
#   make PYTHON=python3.12 test          use another Python
#   make PYTEST_ARGS='-x -k nova' unit   pass arguments to pytest
#   make NIGHTLY='chaos tempest' nightly run some parts only

PYTHON ?= python3
PYTEST_ARGS ?=
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip
CONSTRAINTS := tools/upper-constraints.txt

# PYTEST runs all of the tests that it is given, GATE those of `make test`.
PYTEST := $(BIN)/python -m pytest $(PYTEST_ARGS)
GATE := $(PYTEST) -m 'not nightly'
# For a single test that takes longer than pytest lets one hang.
LONG := -o faulthandler_timeout=7200

DEMO := --editable '.[audit,demo,prometheus,sql,statsd,testing]'
TEMPEST := -r tests/tempest/requirements.txt
TEST_FILES := test-requirements.txt doc/requirements.txt \
	tests/functional/real-requirements.txt tests/cloud/requirements.txt \
	tests/soak/requirements.txt
TEST := $(DEMO) $(addprefix -r ,$(TEST_FILES))
RELEASES := $(patsubst tools/releases/%.txt,%,$(wildcard tools/releases/*.txt))
RELEASE_VENVS := .venv-releases
DEPLOY_VENV := .venv-deploy

# All releases run on Python 3.11. Cinder 22 also needs a C compiler. Where
# they are missing, `make test` leaves out Cinder 22, except in CI.
RELEASE_PYTHON := $(shell for python in $(PYTHON) python3.11; do \
    $$python tools/can_build.py 3.11 2>/dev/null && echo $$python && break; \
    done)
OLDEST := $(if $(RELEASE_PYTHON)$(CI),cinder-22)

# The same for the tests on a real cloud, and MariaDB and RabbitMQ.
SERVERS := $(shell PATH="$$PATH:/usr/sbin:/usr/lib/rabbitmq/bin"; \
    command -v mariadbd >/dev/null && command -v rabbitmq-server)
CLOUD := $(if $(SERVERS)$(CI),test-cloud)

# The parts of `make test`. Two run at the same time, in this order; the one
# on the cloud takes as long as all the others together.
PARTS := $(CLOUD) lint unit functional mypy unit-optimised differential \
	$(OLDEST) docs packaging soak demo

# The package runs on older and newer Pythons than the tests do as a whole.
# Those that are there: make INTERPRETERS='python3.9 /opt/python3.14/bin/python3'
INTERPRETERS ?= $(foreach python,$(addprefix python3.,9 10 12 13 14), \
    $(shell $(python) -c 'print("$(python)")' 2>/dev/null))
INTERPRETER_VENVS := .venv-interpreters
INTERPRETER_TESTS := $(addprefix tests/unit/, \
    audit cmd decisions guard nova testing)
# On these two also over HTTP, with the stubs and the real Cinder. The
# benchmarks themselves need 3.11.
INTERPRETERS_OVER_HTTP := 3.9 3.13
TESTS_OVER_HTTP := $(filter-out tests/functional/test_benchmark_%, \
    $(wildcard tests/functional/test_*.py))

# The parts of `make nightly`.
NIGHTLY ?= unit interpreters model functional differential $(RELEASES) soak \
	soak-long chaos outage cloud cloud-oldest explorer tempest deploy bench

.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
.PHONY: help demo test quick nightly lint mypy unit unit-optimised functional \
	differential soak packaging docs chaos test-releases $(RELEASES) \
	cloud cloud-down test-cloud flows explorer tempest bench genconfig \
	constraints pins deploy clean

# pbr reads the version from git; a tree that came without its history gets
# one that cannot be mistaken for a release.
ifneq ($(shell git rev-parse --verify HEAD 2>/dev/null >/dev/null && echo yes),yes)
export PBR_VERSION ?= 0.0.0
endif

help:  ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-15s %s\n", $$1, $$2}' \
	    $(MAKEFILE_LIST)

demo: $(VENV)/demo.stamp  ## Show forged attachments, the guard refusing them and the audit
	$(BIN)/attachguard demo

test:  ## Run the checks and tests that a change must pass (20 minutes)
	@$(if $(CLOUD),,echo 'Not tested on a real cloud: MariaDB or RabbitMQ' \
	    'is missing; see bindep.txt.')
	@$(if $(OLDEST),,echo 'Not tested on Cinder 22: no Python 3.11 that can' \
	    'build modules in C; see bindep.txt.')
	$(MAKE) -j2 $(VENV)/test.stamp $(OLDEST:%=$(RELEASE_VENVS)/%.stamp)
	$(MAKE) -j2 --output-sync=target $(PARTS)

quick: lint  ## Check the style, and run the fast unit tests (1 minute)
	$(PYTEST) -n 2 -m 'not slow and not nightly' tests/unit tests/tempest

nightly: $(VENV)/test.stamp  ## Run everything that `make test` leaves out (hours)
	$(BIN)/python tools/nightly.py $(NIGHTLY)

lint: $(VENV)/test.stamp  ## Check the style
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/python -m flake8

mypy: $(VENV)/test.stamp  ## Check the types
	$(BIN)/mypy attachguard tests benchmarks

unit: $(VENV)/test.stamp  ## Run the unit tests
	$(GATE) tests/unit tests/model tests/tempest tests/explorer

unit-optimised: $(VENV)/test.stamp  ## Run the guard's unit tests without its asserts
	$(BIN)/python -O -m pytest $(PYTEST_ARGS) -m 'not nightly' \
	    tests/unit/guard tests/unit/nova

functional: $(VENV)/test.stamp  ## Run the tests over HTTP, with stub and real services
	$(GATE) tests/functional

differential: $(VENV)/test.stamp  ## Compare 2,000 requests with Cinder's own router
	$(PYTEST) tests/differential

soak: $(VENV)/test.stamp  ## Check every request on uWSGI while Nova fails
	$(GATE) tests/soak

packaging: $(VENV)/test.stamp  ## Build the wheel, and use it without Cinder
	$(PYTEST) tests/packaging

docs: $(VENV)/test.stamp  ## Build the documentation and the release notes
	$(BIN)/sphinx-build -W --keep-going -q -b html doc/source doc/build/html
	$(BIN)/sphinx-build -a -E -W --keep-going -q \
	    -d releasenotes/build/doctrees -b html releasenotes/source \
	    releasenotes/build/html

deploy: $(VENV)/test.stamp $(DEPLOY_VENV)/deploy.stamp  ## Render the recipes of deploy/ with each tool
	$(PYTEST) tests/deploy

chaos: $(VENV)/test.stamp  ## Test the guard while Nova, Keystone and files fail
	$(PYTEST) tests/chaos

cloud: $(VENV)/test.stamp  ## Start a real cloud with the guard, and show how to log in
	$(BIN)/python -m tests.cloud up

cloud-down:  ## Stop it, and remove every trace of it
	test ! -d .cloud/dev || $(BIN)/python -m tests.cloud down

test-cloud: $(VENV)/test.stamp  ## Test the guard on a real cloud
	$(GATE) tests/cloud

flows: $(VENV)/test.stamp  ## Run every flow of Nova, and write the documentation's table
	$(PYTEST) tests/cloud/test_flows.py --write-table

explorer: $(VENV)/test.stamp  ## Look for calls between Nova's that end in disagreement
	$(BIN)/python -m tests.explorer $(EXPLORER_ARGS)

tempest: $(VENV)/tempest.stamp  ## Run Tempest with and without the guard, and compare
	$(BIN)/python -m tests.tempest $(TEMPEST_ARGS)

test-releases: $(RELEASES)  ## Run the tests on every supported release of Cinder

$(RELEASES): %: $(RELEASE_VENVS)/%.stamp
	$(RELEASE_VENVS)/$@/bin/python -m pytest $(PYTEST_ARGS) \
	    -m 'not newest and not nightly and not slow' \
	    tests/unit tests/functional tests/differential

# The parts of `make nightly`, where they are more than the target of the same
# name.
nightly-unit: $(VENV)/test.stamp
	ATTACHGUARD_NO_HARM=5000 $(PYTEST) tests/unit tests/tempest

# With the newest packages for the interpreter; with 3.9, the oldest ones that
# run on it. Its pytest does not know all options in pyproject.toml.
nightly-interpreters:
	@test -n '$(INTERPRETERS)' || echo 'Not tested on other Pythons: none is' \
	    'there; see make INTERPRETERS=...'
	mkdir -p $(INTERPRETER_VENVS)
	grep -v '^typing-extensions==' tools/releases/cinder-22.txt \
	    > $(INTERPRETER_VENVS)/oldest.txt
	set -e; for python in $(INTERPRETERS); do \
	    version=$$($$python -c \
	        'import sys; print("%d.%d" % sys.version_info[:2])'); \
	    venv=$(INTERPRETER_VENVS)/$$version; pins=; \
	    test $$version != 3.9 || pins='-c $(INTERPRETER_VENVS)/oldest.txt'; \
	    $$python -m venv --clear $$venv; \
	    $$venv/bin/python -m pip install -qq 'pip>=24'; \
	    $$venv/bin/python -m pip install -qq --prefer-binary $$pins $(DEMO); \
	    $$venv/bin/python -m pip install -qq fixtures hypothesis \
	        'pytest>=8'; \
	    functional=; case ' $(INTERPRETERS_OVER_HTTP) ' in \
	        *" $$version "*) functional='$(TESTS_OVER_HTTP)';; esac; \
	    $$venv/bin/python -m pytest $(PYTEST_ARGS) -c /dev/null --rootdir=. \
	        -m 'not nightly and not slow and not newest' \
	        $(INTERPRETER_TESTS) $$functional; \
	done

nightly-model: $(VENV)/test.stamp
	ATTACHGUARD_MODEL_STEPS=200000 $(PYTEST) $(LONG) -s tests/model

nightly-functional: $(VENV)/test.stamp
	$(PYTEST) tests/functional

nightly-differential: $(VENV)/test.stamp
	$(PYTEST) $(LONG) tests/differential --requests 100000

nightly-soak: $(VENV)/test.stamp
	$(PYTEST) tests/soak

nightly-soak-long: $(VENV)/test.stamp
	ATTACHGUARD_SOAK_MINUTES=30 ATTACHGUARD_SOAK_SERVERS=uwsgi-5x1,apache-4x1 \
	    $(PYTEST) -s tests/soak/test_soak.py -k accounted_for

nightly-outage: $(VENV)/test.stamp
	$(BIN)/python -m benchmarks.outage --check

nightly-cloud: $(VENV)/test.stamp
	$(PYTEST) tests/cloud

# The sequences of calls with the oldest Cinder, in a cloud of the newest rest.
nightly-cloud-oldest: $(VENV)/test.stamp $(RELEASE_VENVS)/cinder-22.stamp
	$(RELEASE_VENVS)/cinder-22/bin/python -m pip install -qq \
	    'gunicorn>=23' 'PyMySQL>=1.0.2'
	ATTACHGUARD_CLOUD_CINDER=$(abspath $(RELEASE_VENVS)/cinder-22) \
	    $(PYTEST) --cloud-directory=.cloud/oldest tests/cloud/test_sequences.py

nightly-explorer: $(VENV)/test.stamp
	ATTACHGUARD_EXPLORER_MINUTES=30 $(PYTEST) -s tests/explorer

nightly-cinder-%: $(RELEASE_VENVS)/cinder-%.stamp
	$(RELEASE_VENVS)/cinder-$*/bin/python -m pytest $(PYTEST_ARGS) \
	    -m 'not newest' tests/unit tests/functional tests/differential

nightly-%:
	$(MAKE) $*

bench: $(VENV)/test.stamp  ## Measure what the guard and an audit cost
	$(BIN)/python -m benchmarks --check

genconfig: $(VENV)/test.stamp  ## Generate the samples in etc/
	$(BIN)/oslo-config-generator \
	    --config-file tools/config/attachguard-config-generator.conf
	$(BIN)/oslopolicy-sample-generator \
	    --config-file tools/config/attachguard-policy-generator.conf
	$(BIN)/python tools/generate_preset.py
	$(BIN)/python tools/generate_classes.py

constraints:  ## Pin the newest release of every dependency
	$(PYTHON) -m venv --clear $(VENV)
	$(PIP) install -qq $(TEST) $(TEMPEST)
	sed -i '/^[^#]/d' $(CONSTRAINTS)
	$(PIP) freeze --exclude-editable >> $(CONSTRAINTS)

pins:  ## Pin what each release of Cinder is tested with
	$(PYTHON) -m venv --clear $(RELEASE_VENVS)/pins
	$(RELEASE_VENVS)/pins/bin/python -m pip install -qq uv
	$(RELEASE_VENVS)/pins/bin/python tools/make_release_pins.py \
	    --uv $(RELEASE_VENVS)/pins/bin/uv

clean:  ## Remove everything that make, tox and builds create
	for cloud in $(wildcard .cloud/dev .cloud/test .cloud/oldest \
	        .cloud/tempest .cloud/explorer); do \
	    $(BIN)/python -m tests.cloud --directory $$cloud down; done
	rm -rf $(VENV) $(RELEASE_VENVS) $(DEPLOY_VENV) $(INTERPRETER_VENVS)
	rm -rf .cloud .nightly .tox build dist cover
	rm -rf doc/build releasenotes/build doc/source/_static/*.sample
	rm -rf *.egg-info AUTHORS ChangeLog .coverage .coverage.*
	rm -rf .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find attachguard benchmarks tests -name __pycache__ -prune -exec rm -rf {} +

# A stamp is newer than all files that decide what is installed.
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

$(VENV)/test.stamp: $(VENV)/demo.stamp $(TEST_FILES)
	$(PIP) install -qq -c $(CONSTRAINTS) $(TEST)
	@touch $@

$(RELEASE_VENVS)/%.pins.stamp: tools/releases/%.txt
	@[ -n '$(RELEASE_PYTHON)' ] || { \
	    echo '$* needs Python 3.11, its headers and a C compiler: see' \
	        'bindep.txt, or make PYTHON=...' >&2; \
	    exit 1; }
	$(RELEASE_PYTHON) -m venv --clear $(RELEASE_VENVS)/$*
	$(RELEASE_VENVS)/$*/bin/python -m pip install -qq 'pip>=24'
	$(RELEASE_VENVS)/$*/bin/python -m pip install -qq -r $<
	@touch $@

# After the other environment, as both write the package's metadata.
$(RELEASE_VENVS)/%.stamp: $(RELEASE_VENVS)/%.pins.stamp Makefile \
		pyproject.toml requirements.txt setup.cfg setup.py \
		| $(VENV)/test.stamp
	$(RELEASE_VENVS)/$*/bin/python -m pip install -qq \
	    -r tools/releases/$*.txt $(DEMO)
	@touch $@

.SECONDARY: $(RELEASES:%=$(RELEASE_VENVS)/%.pins.stamp)

$(DEPLOY_VENV)/deploy.stamp: tests/deploy/requirements.txt
	$(PYTHON) -m venv --clear $(DEPLOY_VENV)
	$(DEPLOY_VENV)/bin/python -m pip install -qq -r $<
	@touch $@

$(VENV)/tempest.stamp: $(VENV)/test.stamp tests/tempest/requirements.txt
	$(PIP) install -qq -c $(CONSTRAINTS) $(TEMPEST)
	@touch $@
