# One command for each thing; each makes the environments that it needs. `make help` lists them.
# Environments lie in .envs/, made by uv with pip's settings (index, certificates ...); pip itself only installs uv.

PYTHON ?= python3.11
ENVS   := .envs
UV     := $(ENVS)/uv
MAIN   := $(ENVS)/main
LINT   := $(ENVS)/lint
BENCH  := $(ENVS)/bench
# One environment for each container image that local_aws knows.
IMAGES := $(patsubst local_aws/images/%/requirements.txt,$(ENVS)/images/%,$(wildcard local_aws/images/*/requirements.txt))

# One environment for each Lambda runtime that local_aws knows.
RUNTIMES := $(patsubst local_aws/runtimes/%/requirements.txt,$(ENVS)/runtimes/%,$(wildcard local_aws/runtimes/*/requirements.txt))

# What the platform's functions carry beside our own code: one archive for those of the lifecycle, one for the seed.
LAMBDA := $(ENVS)/lambda
SEED   := $(ENVS)/seed_lambda

# make demo [KEEP=1] [STEP=feature]; make story-aws [REGION=us-east-1] [YES=1] [DEPLOY=1]
export KEEP STEP REGION YES DEPLOY

# make install-platform [ARTIFACT_BUCKETS=my-artifacts] [OPTIONS="--alert-email me@example.com"] [YES=1]
# make uninstall-platform [OPTIONS=--force] [YES=1]
PLATFORM = $(MAIN)/bin/python -m servicecatalog
ANSWER   = $(if $(filter 1,$(YES)),--yes)

# A file's tests share a server; the files come in the order of tests/conftest.py, not in that of their tests' number.
# One worker more than there are cores: tests also wait for servers and clocks.
PARALLEL = -n $(shell expr $$(getconf _NPROCESSORS_ONLN) + 1) --dist loadfile --no-loadscope-reorder

# With it each of the many processes that local_aws and the tests start would compile its modules anew.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help install demo picture story-aws install-platform uninstall-platform test test-all lint format proof bench lock clean

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-19s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(MAIN)/.installed $(IMAGES:=/.installed) $(RUNTIMES:=/.installed) $(LAMBDA)/.installed $(SEED)/.installed ## make the environments (2.2 GB; after it no network is needed)

demo: install ## a project's life on this machine, no AWS account (KEEP=1: then play on; STEP=feature: stop after that chapter)
	@$(MAIN)/bin/python -m tests.story.demo

picture: install ## the demo once more, for the README's picture of it
	@$(MAIN)/bin/python -m tests.story.demo --picture

story-aws: install ## the same in an AWS account, for a little money (DEPLOY=1: deploying too)
	@$(MAIN)/bin/python -m tests.story.aws

install-platform: install ## install platform and product in AWS, or update them (docs/install.md)
	@$(PLATFORM) install $(if $(ARTIFACT_BUCKETS),--artifact-buckets '$(ARTIFACT_BUCKETS)') $(ANSWER) $(OPTIONS)

uninstall-platform: install ## remove both; ledger, buckets and repositories stay (docs/install.md)
	@$(PLATFORM) uninstall $(ANSWER) $(OPTIONS)

test: install ## the tests, without the slow ones (.ci/run runs this too)
	@$(MAIN)/bin/python -m pytest -m "not slow" $(PARALLEL)

test-all: install lint ## every test and every check; run it before calling an issue done
	@$(MAIN)/bin/python -m pytest $(PARALLEL)

lint: $(LINT)/.installed $(MAIN)/.installed ## ruff, mypy, cfn-lint, checkov, IAM policies, the schemas of the CI files; generated repositories too
	@PYTHON=$(MAIN)/bin/python LINT=$(LINT)/bin tests/lint.sh

format: $(LINT)/.installed ## let ruff format the code
	@$(LINT)/bin/ruff format . && $(LINT)/bin/ruff check --fix .

proof: install ## try what docs/proof.md says was tried, and write the page
	@$(MAIN)/bin/python -m tests.proof_page

bench: install $(BENCH)/.installed ## measure the figures of docs/benchmarks.md on this machine
	@$(MAIN)/bin/python -m tests.bench

lock: $(UV)/.installed ## resolve requirements/*.in again
	@for name in uv main lint bench; do \
	  $(UV)/bin/uv pip compile --quiet --universal --python-version 3.11 --no-header requirements/$$name.in -o requirements/$$name.txt || exit; \
	done
	@for name in lambda seed_lambda; do \
	  $(UV)/bin/uv pip compile --quiet $(LAMBDA_PLATFORM) --no-header requirements/$$name.in -o requirements/$$name.txt || exit; \
	done

clean: ## remove the environments and everything generated
	rm -rf $(ENVS) build .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# An environment is made whole or not at all: a failed install leaves no .installed behind, and the next try starts anew.
$(UV)/.installed: requirements/uv.txt
	@command -v $(PYTHON) >/dev/null || { \
	  echo "$(PYTHON) is not on the PATH: install Python 3.11, or name it, as in: make $(MAKECMDGOALS) PYTHON=/path/to/python3.11"; exit 1; }
	@rm -rf $(UV) && mkdir -p $(ENVS)
	@$(PYTHON) -m venv $(UV) && $(UV)/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	@touch $@

INSTALL = $(UV)/bin/python requirements/uv_as_pip.py --quiet

# Byte code is compiled at once, since local_aws and the jobs start many short processes.
define make_environment
@echo "Making $(1) from $(2) ..."
@rm -rf $(1)
@$(UV)/bin/uv venv --quiet --no-python-downloads --python $(UV)/bin/python $(1)
@$(INSTALL) --compile-bytecode --python $(1)/bin/python -r $(2)
@touch $(1)/.installed
endef

$(MAIN)/.installed: requirements/main.txt | $(UV)/.installed
	$(call make_environment,$(MAIN),$<)

$(LINT)/.installed: requirements/lint.txt | $(UV)/.installed
	$(call make_environment,$(LINT),$<)

$(BENCH)/.installed: requirements/bench.txt | $(UV)/.installed
	$(call make_environment,$(BENCH),$<)

# Packages in a folder, as they lie in the functions' archive: for Lambda's Python and processor, not for this machine's.
LAMBDA_PLATFORM := --python-version 3.11 --python-platform x86_64-manylinux2014

$(LAMBDA)/.installed $(SEED)/.installed: $(ENVS)/%/.installed: requirements/%.txt | $(UV)/.installed
	@echo "Fetching the functions' packages to $(@D) ..."
	@rm -rf $(@D)
	@$(INSTALL) --only-binary :all: $(LAMBDA_PLATFORM) --python $(UV)/bin/python --target $(@D) -r $<
	@touch $@

$(ENVS)/runtimes/%/.installed: local_aws/runtimes/%/requirements.txt | $(UV)/.installed
	$(call make_environment,$(ENVS)/runtimes/$*,$<)

$(ENVS)/images/%/.installed: local_aws/images/%/requirements.txt | $(UV)/.installed
	$(call make_environment,$(ENVS)/images/$*,$<)
