# ratite: everything runs in a virtual environment of its own, .venv, made on first use.
#   make test    the whole test suite, with the linters      make demo    two CPUs of different architecture in one machine
#   make bench   the measurements, beside QEMU where it is installed
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ratite
JOBS ?= auto
# Folder of an unpacked MicroBlaze GCC; empty: PATH.
MICROBLAZE ?=
export MICROBLAZE
# Folder of CoreMark's source, for make peers; empty: the bench goes without.
COREMARK ?=

.DEFAULT_GOAL := help
.PHONY: help venv test lint docs demo demo-linux bench boots libvirt soak guests guests-update peers clean

help:
	@echo "make test    linters and the whole test suite"
	@echo "make demo    assemble and run the two-architecture demo machine"
	@echo "make demo-linux  RISC-V and MicroBlaze Linux side by side in one machine (fetches Debian's kernel)"
	@echo "make bench   measurements, beside QEMU where it is installed"
	@echo "make boots   boot Linux guests to their shell (ARGS='--guest all --count 20 --harts 4 --peer'; fetches Debian's kernel)"
	@echo "make libvirt what runs under libvirt, Debian's Linux too (root; installs Debian's libvirt and QEMU, fetches its kernel)"
	@echo "make docs    the documentation, with the generated reference, as a site in build/docs"
	@echo "make lint    ruff and mypy --strict"
	@echo "make soak    long random runs"
	@echo "make guests  rebuild the guest programs and compare with the ELFs checked in (MICROBLAZE=dir)"
	@echo "make peers   install the emulators that tests and bench compare with (Debian, root; COREMARK=dir: that too)"
	@echo "make clean   remove .venv and everything built"

venv: $(STAMP)

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
		{ echo "make: Python 3.11 or newer is needed; set PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || \
		{ echo "make: $(PYTHON) has no venv; install it (Debian: apt-get install python3-venv)" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --config-settings editable_mode=compat --editable '.[jit,dev]'
	@touch $@

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/mypy

test: lint
	$(BIN)/python -m pytest -n $(JOBS) -q -m "not soak"

docs: $(STAMP)
	@mkdir -p build
	rm -rf build/docs build/docs-source
	cp -r docs build/docs-source
	$(BIN)/python -m ratite.clients.reference build/docs-source/reference
	$(BIN)/python -m sphinx -q -W --keep-going -b html build/docs-source build/docs
	@echo "build/docs/index.html"

demo: $(STAMP)
	$(BIN)/python -m ratite.clients.demo $(ARGS)

bench: $(STAMP)
	$(BIN)/python -m ratite.bench $(ARGS)

demo-linux: $(STAMP)
	$(BIN)/python -m ratite.clients.boots.guests build/guests
	$(BIN)/python -m ratite.clients.demo_linux $(ARGS)

boots: $(STAMP)
	$(BIN)/python -m ratite.clients.boots.guests build/guests
	$(BIN)/python -m ratite.clients.boots $(ARGS)

# libvirtd, its QEMU driver and virsh come from .ci/peers; what can't be had is said, and its tests are skipped by name.
libvirt: $(STAMP)
	.ci/peers
	$(BIN)/python -m ratite.clients.boots.guests build/guests
	RATITE_DEBIAN=$(CURDIR)/build/guests $(BIN)/python -m pytest -q -rs tests/libvirt $(ARGS)

# Random runs that resume and add up: a ledger in build/ keeps seed, count and commit of every part that is done.
SOAK_SEED ?= 1
SOAK_COUNT ?= 1000000
soak: $(STAMP)
	@mkdir -p build
	$(BIN)/python -m pytest -q -m soak
	for tier in 0 1 2; do for xlen in 32 64; do for oracle in evaluator mmu unicorn unicorn_mmu; do \
		$(BIN)/python -m tests.oracle.riscv_$$oracle --count $(SOAK_COUNT) --seed $(SOAK_SEED) --xlen $$xlen --tier $$tier \
			--ledger build/soak.jsonl || exit 1; done; done; done
	for tier in 0 1 2; do for endian in be le; do for oracle in evaluator qemu "qemu --mmu"; do \
		$(BIN)/python -m tests.oracle.microblaze_$$oracle --count $(SOAK_COUNT) --seed $(SOAK_SEED) --endian $$endian \
			--tier $$tier --ledger build/soak.jsonl || exit 1; done; done; done
	for xlen in 32 64; do $(BIN)/python -m tests.oracle.riscv_fp_traps --xlen $$xlen && \
		$(BIN)/python -m tests.oracle.riscv_fp_qemu --count $(SOAK_COUNT) --seed $(SOAK_SEED) --xlen $$xlen --ledger build/soak.jsonl || \
		exit 1; done
	for judge in reference qemu; do $(BIN)/python -m tests.oracle.microblaze_fpu --judge $$judge --seed $(SOAK_SEED) \
		--ledger build/soak.jsonl || exit 1; done

guests:
	rm -rf build/guests
	$(MAKE) -s -C tests/guests OUT=$(CURDIR)/build/guests
	$(PYTHON) tests/guests/manifest.py compare build/guests

# After a change of a guest's source: build, take over, write the manifest.
guests-update:
	rm -rf build/guests
	$(MAKE) -s -C tests/guests OUT=$(CURDIR)/build/guests
	$(PYTHON) tests/guests/manifest.py write build/guests

peers:
	.ci/peers
ifneq ($(COREMARK),)
	$(MAKE) -s -C tests/guests -f coremark/Makefile COREMARK=$(abspath $(COREMARK)) OUT=$(CURDIR)/build/coremark
endif

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
