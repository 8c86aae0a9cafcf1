# The workshop. Every target installs what it needs: a fresh clone does `make demo` and `make test` without a step by hand.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

# An absolute path: Ansible ignores an ansible.cfg of the current folder where everybody may write to that folder.
export ANSIBLE_CONFIG := $(CURDIR)/ansible.cfg
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export CORPORA ?= ../shared/corpora
PYTHON ?= $(shell command -v python3.11 || command -v python3)
LINK := collections/ansible_collections/goldimage/osd

.PHONY: help dev demo demo-again lab test lint sanity bench wine-test boot-test soak clean

help:
	@echo "make demo        build and capture a reference computer in the lab, with docs/examples/project"
	@echo "make demo-again  the same again: the image is there, nothing is done"
	@echo "make dev         the virtual environment .venv and the link that makes the checkout a collection"
	@echo "make lab         COMPUTERS=n simulated computers in the foreground, with build/lab/inventory.yml"
	@echo "make test        unit, conformance and integration tests; CORPORA=folder of foreign files"
	@echo "make bench       requests, times and CPU time of the demo's sequence: build/bench.json"
	@echo "make wine-test   the agent under Wine: WMI, jobs, files, shells, installers; exit 3 where a package cannot be had"
	@echo "make boot-test   media of a boot image start in QEMU under SeaBIOS and OVMF; exit 3 where a package cannot be had"
	@echo "make soak        broken requests and media for SOAK_SECONDS (600)"
	@echo "make lint        ruff, mypy, yamllint, ansible-lint, ansible-test sanity"

dev: .venv/.installed $(LINK)/galaxy.yml

# program or file → Debian package that brings it; only what is missing is installed
build/.packages: tests/tooling/debian_packages.sh
	mkdir -p build
	tests/tooling/debian_packages.sh
	touch $@

# After the others: two of apt at once stand in each other's way.
build/.media-packages: tests/tooling/debian_packages.sh | build/.packages
	mkdir -p build
	tests/tooling/debian_packages.sh media
	touch $@

.venv/.installed: requirements.txt requirements-dev.txt | build/.packages
	test -x .venv/bin/python || $(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	touch $@

$(LINK)/galaxy.yml:
	mkdir -p $(dir $(LINK))
	ln -sfn ../../.. $(LINK)

demo: dev
	tests/tooling/demo.sh new

demo-again: dev
	tests/tooling/demo.sh again

lab: dev
	tests/tooling/lab.sh $(or $(COMPUTERS),1)

test: dev build/.media-packages
	# Tests of one file share its lab, so they stay with one worker; whole runs come first, so that no worker is left with one at the end.
	python -m pytest -q -n 2 --dist loadscope --no-loadscope-reorder tests/integration tests/conformance tests/unit

bench: dev
	python tests/bench/bench.py

wine-test: dev
	tests/tooling/wine_test.sh

boot-test: dev
	tests/boot/boot_test.sh

soak: dev
	python tests/soak/soak.py

lint: dev
	ruff check .
	ruff format --check .
	mypy -p ansible_collections.goldimage.osd.plugins.plugin_utils
	yamllint --strict .
	ansible-lint
	$(MAKE) --no-print-directory sanity

sanity: dev
	tests/tooling/sanity.sh

clean:
	rm -rf build collections .mypy_cache .ruff_cache .pytest_cache
