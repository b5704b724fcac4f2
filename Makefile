# Everything that is done to this repository. `make help` lists it.

# The version that the programs report; a release sets it to its own.
VERSION ?= v0.1.0-dev
# Arguments for `mcp-bootstrap dev`: make dev ARGS="-gateway-address 127.0.0.1:9090"
ARGS ?=
# What `make test` runs, and how.
PACKAGES ?= ./...
TESTFLAGS ?=

SHELL := /bin/bash
LDFLAGS := -X main.version=$(VERSION) -X vault-plugin-secrets-mcp/backend.Version=$(VERSION)
PROGRAMS := vault-plugin-secrets-mcp mcp-gateway mcp-bootstrap
SOURCE_vault-plugin-secrets-mcp := ./plugin
SOURCE_mcp-gateway := ./gateway
SOURCE_mcp-bootstrap := ./bootstrap
RACE := .cache/race

.PHONY: help build dev test test-programs vault lint fmt clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' Makefile

build: $(PROGRAMS:%=bin/%) ## the three programs into bin/

# Go knows what is up to date, so make always asks it.
bin/%: FORCE
	@echo "Building $@"
	@CGO_ENABLED=0 go build -trimpath -ldflags "-s -w $(LDFLAGS)" -o $@ $(SOURCE_$*)

dev: build vault ## the whole system on this machine, until Ctrl-C
	@exec bin/mcp-bootstrap dev -vault-binary "$$(scripts/tool.sh vault)" $(ARGS)

vault: ## a Vault server: the one on the PATH, else built once and kept in .cache/
	@scripts/tool.sh vault >/dev/null

test: vault test-programs ## every test, with the race detector; PACKAGES=./backend/... for some
	@TEST_VAULT="$$(scripts/tool.sh vault)" TEST_PROGRAMS="$(CURDIR)/$(RACE)" \
		go test -race -timeout 20m $(TESTFLAGS) $(PACKAGES)

# What the black-box tests run: the same programs, with the race detector.
test-programs: $(PROGRAMS:%=$(RACE)/%)

$(RACE)/%: FORCE
	@CGO_ENABLED=1 go build -race -ldflags "$(LDFLAGS)" -o $@ $(SOURCE_$*)

lint: ## the linters of .golangci.yml
	@"$$(scripts/tool.sh lint)" run ./...

fmt: ## the formatters of .golangci.yml
	@"$$(scripts/tool.sh lint)" fmt ./...

clean: ## removes what was built; .cache/tools stays, for it takes minutes
	rm -rf bin $(RACE)

FORCE:
