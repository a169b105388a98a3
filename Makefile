# make demo: run a job in a fresh virtual machine.   make check: run quick tests, in under 2 minutes.   make test: run all tests.
# Each first installs and lists what it needs, as root or as a user with sudo. A second run finds everything installed.

SHELL := /bin/bash
.DELETE_ON_ERROR:
.PHONY: demo slurm-demo gridengine-demo check smoke test test-c test-images test-machines test-builds test-slurm test-quick test-gridengine soak lint unit bench man picture clean help

VENV := .venv
BIN := $(VENV)/bin
QEMU ?= qemu-system-x86_64
WORKERS ?= 2
PYTEST := DAYFLY_TEST_QEMU=$(QEMU) $(BIN)/pytest --durations 20 --durations-min 5
SOURCES := pyproject.toml hatch_build.py launcher/launcher.c src/dayfly/guest/initramfs.py $(wildcard guest/*.[ch])

help:
	@sed -n '1,2s/^# //p' Makefile
	@echo "also: make slurm-demo, make gridengine-demo (a batch system to play with, as root), lint, unit, smoke, soak (many rounds of faults, takes more than an hour), bench, man, picture (needs graphviz), clean"

demo: $(VENV)/.demo
	@tools/demo

slurm-demo gridengine-demo: %-demo: $(VENV)/.test
	@$(BIN)/python -m tools.batch_demo $*

# The first run builds the image of the smoke test, which takes another minute or two.
check: $(VENV)/.test
	$(MAKE) --jobs 2 --output-sync=target lint unit smoke

test: $(VENV)/.test
	$(MAKE) --jobs 3 --output-sync=target lint test-c test-images
	$(MAKE) --jobs 2 --output-sync=line test-machines test-slurm test-builds test-gridengine test-quick

test-c:
	$(MAKE) -C guest check
	$(MAKE) -C guest fuzz SECONDS=20
	$(MAKE) -C spank check

# Two test targets run at a time, because tests of batch systems mostly wait; with three, some tests reach their time limits. The
# images are built before, so that this time does not count towards a test's time limit.
test-images:
	$(BIN)/python -m tests.framework.images
test-machines:
	$(PYTEST) -n $(WORKERS) --dist worksteal tests/machine
test-builds:
	$(PYTEST) tests/build
test-quick:
	$(PYTEST) --ignore tests/machine --ignore tests/build --ignore tests/batch
test-slurm test-gridengine: test-%:
	$(PYTEST) tests/batch --on $*

soak: $(VENV)/.test
	$(MAKE) -C guest fuzz SECONDS=600
	$(PYTEST) -n $(WORKERS) --dist worksteal --ignore tests/batch --soak
	$(PYTEST) tests/batch --soak

unit: $(VENV)/.test
	$(PYTEST) tests/unit

smoke: $(VENV)/.test
	$(PYTEST) tests/machine/test_contract.py::test_output_and_status

lint: $(VENV)/.test
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.test
	$(BIN)/python -m bench.start

man: $(VENV)/.test
	$(BIN)/python tools/man.py

picture:
	dot -Tsvg docs/explanation/architecture.dot -o docs/explanation/architecture.svg

# What each needs, installed once; a change of what the package is made of installs it again.
$(VENV)/.demo $(VENV)/.test: $(VENV)/.%: tools/setup tools/packages-% $(SOURCES)
	@tools/setup $*
	@touch $@

clean:
	rm -rf $(VENV) build dist guest/build src/dayfly/guest/agent.cpio src/dayfly/guest/agent.sha256
