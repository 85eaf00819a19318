# The commands users meet. `make help` prints them. Go alone is enough for
# `make run`, `make build` and `make check`; `make test` brings the rest.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

GO    ?= go
BIN   := bin/sotto
TOOLS := $(CURDIR)/.tools

# One static binary. Only the race detector needs cgo, and asks for it itself.
export CGO_ENABLED ?= 0

# Linters by exact version, outside go.mod so that they pull nothing into the
# appliance. The version is part of the file name: a new one is a new file.
STATICCHECK := $(TOOLS)/staticcheck-v0.8.2
GOFUMPT     := $(TOOLS)/gofumpt-v0.12.0
ERRORLINT   := $(TOOLS)/go-errorlint-v1.8.0
MISSPELL    := $(TOOLS)/misspell-v0.3.4
LINTERS     := $(STATICCHECK) $(GOFUMPT) $(ERRORLINT) $(MISSPELL)

# What people write by hand; generated and installed trees are not ours to lint.
OWN      = find . \( -name node_modules -o -name .git -o -name .tools -o -name dist -o -name testdata -o -path ./bin -o -path ./web/e2e/out \) -prune -o -type f
GO_FILES = $(OWN) -name '*.go' -print0
TEXTS    = $(OWN) \( -name '*.go' -o -name '*.md' -o -name '*.ts' -o -name '*.mjs' -o -name '*.css' -o -name '*.html' -o -name '*.sh' -o -name Makefile \) -print0

# Longest time for one fuzz target under `make fuzz`, and for `make soak`.
FUZZTIME ?= 10m
SOAKTIME ?= 10m

# Of `make compare`: measures of each server under each load, their length, the
# page, and other flags (`-scenarios fan,idle -servers sotto,bare-pion`).
COMPARE_RUNS    ?= 3
COMPARE_SECONDS ?= 20
COMPARE_REPORT  ?= bin/compare.html
COMPARE_FLAGS   ?=

.PHONY: help run build check test deps e2e fuzz soak generate bench compare \
        vet lint unit race web generated fuzz-short soak-short cross

## run: build, then the appliance on https://localhost:8443 (needs Go alone)
run: build
	@exec $(BIN) serve

## build: the one static binary, bin/sotto
build:
	$(GO) build -trimpath -o $(BIN) ./cmd/sotto

## check: the quick part: build, vet, lint, unit tests, direction test
check: vet lint unit

## test: everything needed on a fresh machine, then all tests, browsers included
test:
	@$(MAKE) --no-print-directory deps
	@$(MAKE) --no-print-directory check
	@$(MAKE) --no-print-directory cross
	@$(MAKE) --no-print-directory generated
	@$(MAKE) --no-print-directory web
	@$(MAKE) --no-print-directory race
	@$(MAKE) --no-print-directory fuzz-short
	@$(MAKE) --no-print-directory soak-short
	@$(MAKE) --no-print-directory e2e
	@echo "make test: all passed"

## deps: what the tests need from apt and npm (one list, in scripts/deps.sh)
deps:
	@scripts/deps.sh

## e2e: real browsers in real meetings
e2e: build
	@if [ -d web/e2e ]; then cd web/e2e && SOTTO_BIN=$(CURDIR)/$(BIN) npm test; \
	else echo "e2e: web/e2e is not in this tree"; fi

## fuzz: every fuzz target for FUZZTIME (10m) each
fuzz:
	@scripts/fuzz.sh each $(FUZZTIME)

## soak: the long runs, SOAKTIME (10m) each
soak:
	SOTTO_SOAK=$(SOAKTIME) $(GO) test -count=1 -v -timeout=3h -run='^TestSoak' ./...

## generate: generated files (web client types, …)
generate:
	$(GO) generate ./...

## bench: our benches, one JSON object each
bench: build
	@names=$$($(BIN) bench -list); for name in $$names; do $(BIN) bench "$$name" -json; done

## compare: our benches beside the peers, in one run (COMPARE_RUNS=3, COMPARE_SECONDS=20)
compare: build
	@scripts/deps.sh compare || echo "compare: Janus and coturn may not be compared" >&2
	$(GO) build -trimpath -o bin/sotto-peer ./bench/peer
	$(GO) build -trimpath -o bin/sotto-compare ./bench/compare
	@exec bin/sotto-compare -sotto $(BIN) -peer bin/sotto-peer -runs $(COMPARE_RUNS) -seconds $(COMPARE_SECONDS) \
	  -report $(COMPARE_REPORT) -results bin/compare.jsonl $(COMPARE_FLAGS)

## help: this list
help:
	@sed -n 's/^## \([a-z0-9-]*\): \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 18

# ---- the steps of check and test ----

vet: build
	$(GO) vet ./...
	@if [ -d internal/udp ]; then GOOS=darwin $(GO) vet ./internal/udp; fi

lint: $(LINTERS)
	@bad=$$($(GO_FILES) | xargs -0 -r $(GOFUMPT) -l); \
	 if [ -n "$$bad" ]; then echo "gofumpt would change:"; echo "$$bad"; exit 1; fi
	$(STATICCHECK) ./...
	$(ERRORLINT) ./...
	@$(TEXTS) | xargs -0 -r $(MISSPELL) -error

unit:
	$(GO) test -short ./...

# The whole suite once, under the race detector, the long tests included.
race:
	CGO_ENABLED=1 $(GO) test -race -count=1 -timeout=20m ./...

# What is released besides what runs here.
cross:
	@for arch in amd64 arm64; do GOOS=linux GOARCH=$$arch $(GO) build -o /dev/null ./cmd/sotto; done

# Generated files in the tree are what the generators make.
generated:
	@scripts/unchanged.sh . $(GO) generate ./...

# The committed web build is what the sources make, and its own tests pass.
web:
	@if [ -d web/src ]; then \
	   (cd web && npm test --if-present) && scripts/unchanged.sh web/dist npm --prefix web run build; \
	 else echo "web: web/src is not in this tree"; fi

# Two minutes of the media soak.
soak-short:
	SOTTO_SOAK=2m $(GO) test -count=1 -v -timeout=10m -run='^TestSoakMedia$$' ./bench/sfu

# Every fuzz target a few seconds: three minutes in all at most.
fuzz-short:
	@scripts/fuzz.sh all 150

define tool
$(TOOLS)/$(1)-$(2):
	@mkdir -p $(TOOLS)/tmp
	GOBIN=$(TOOLS)/tmp GOFLAGS= $(GO) install $(3)@$(2)
	@mv $(TOOLS)/tmp/$(1) $$@
endef
$(eval $(call tool,staticcheck,v0.8.2,honnef.co/go/tools/cmd/staticcheck))
$(eval $(call tool,gofumpt,v0.12.0,mvdan.cc/gofumpt))
$(eval $(call tool,go-errorlint,v1.8.0,github.com/polyfloyd/go-errorlint))
$(eval $(call tool,misspell,v0.3.4,github.com/client9/misspell/cmd/misspell))
