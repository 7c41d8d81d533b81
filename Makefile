# The front door. Every target sets up what it needs; test, demo and bench need root, because they boot nodes.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PREFIX ?= /usr
DESTDIR ?=
# Where the binaries to install are.
BUILD ?= target/release
CARGO ?= cargo

.PHONY: help setup setup-bench build release lint test fuzz demo bench install clean

help: ## What can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## Install what building and testing need (Debian packages, the Rust toolchain)
	@dist/setup test

setup-bench:
	@dist/setup bench

build: setup ## Build for development
	$(CARGO) build --workspace --all-targets

# stage1-ns is started for every app: without a dynamic linker to run, that takes half the time.
STAGE1_STATIC = LIBSECCOMP_LINK_TYPE=static LIBSECCOMP_LIB_PATH="$$(pkg-config --variable=libdir libseccomp)" \
  $(CARGO) rustc --release -p stage1-ns --bin stage1-ns -- -C target-feature=+crt-static -C relocation-model=static

release: setup ## Build what gets installed
	$(CARGO) build --release -p stage0 -p kubelet
	$(STAGE1_STATIC)

lint: setup ## Formatting, clippy, licences and sources of dependencies
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	@if $(CARGO) deny --version >/dev/null 2>&1; then \
	  $(CARGO) deny --log-level error check bans licenses sources; \
	else echo "cargo-deny is not installed: dependencies are not checked (cargo install --locked cargo-deny)"; fi

test: lint ## Every test, end to end ones included
	$(CARGO) build --workspace --bins
	$(CARGO) test --workspace --no-fail-fast

# How long each target runs, in seconds.
FUZZ_SECONDS ?= 600
fuzz: setup ## Feed what is read from outside with nonsense (a nightly compiler and cargo-fuzz are needed)
	@fuzz/run $(FUZZ_SECONDS)

demo: release ## The main job, shown in a screen or two
	$(CARGO) build --release -p tests --bins
	@examples/demo

bench: setup-bench release ## The numbers, beside the peers'
	$(CARGO) bench -p tests

install: ## Install binaries, units and manuals below $(DESTDIR)$(PREFIX)
	@test -x $(BUILD)/rkt || { echo "there is no $(BUILD)/rkt; build first: make release" >&2; exit 1; }
	install -D -m 0755 -t $(DESTDIR)$(PREFIX)/bin $(BUILD)/rkt $(BUILD)/kubelet
	install -D -m 0755 -t $(DESTDIR)$(PREFIX)/lib/rkt/stage1 $(BUILD)/stage1-ns
	install -D -m 0644 -t $(DESTDIR)$(PREFIX)/lib/systemd/system dist/systemd/*.service dist/systemd/*.socket dist/systemd/*.timer
	install -D -m 0644 dist/sysusers.d/rkt.conf $(DESTDIR)$(PREFIX)/lib/sysusers.d/rkt.conf
	install -D -m 0644 dist/tmpfiles.d/rkt.conf $(DESTDIR)$(PREFIX)/lib/tmpfiles.d/rkt.conf
	install -D -m 0644 -t $(DESTDIR)$(PREFIX)/share/man/man1 dist/man/*.1
	install -D -m 0644 -t $(DESTDIR)$(PREFIX)/share/man/man8 dist/man/*.8

clean: ## Remove what was built
	$(CARGO) clean
