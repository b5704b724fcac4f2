# Everything that is done to this repository. `make help` lists it.

# The version that the programs report; a release sets it to its own.
VERSION ?= v0.1.0-dev
# Arguments for `mcp-bootstrap dev`: make dev ARGS="-gateway-address 127.0.0.1:9090"
ARGS ?=
# Flags for `go test`: make test-blackbox TESTFLAGS="-run Revoked -v"
TESTFLAGS ?=

SHELL := /bin/bash
LDFLAGS := -X vault-plugin-secrets-mcp/backend/version.number=$(VERSION)
PROGRAMS := vault-plugin-secrets-mcp mcp-gateway mcp-bootstrap
SOURCE_vault-plugin-secrets-mcp := ./plugin/cmd/vault-plugin-secrets-mcp
SOURCE_mcp-gateway := ./gateway/cmd/mcp-gateway
SOURCE_mcp-bootstrap := ./bootstrap/cmd/mcp-bootstrap
RACE := .cache/race
# The programs that benchmarks run: as they are shipped.
BENCH = TEST_VAULT="$$(scripts/tool.sh vault)" TEST_PROGRAMS="$(CURDIR)/bin"

.PHONY: help build dev package release release-check test-package test test-manifests test-unit test-blackbox model test-net-http test-net-http-short test-openbao test-vault-version test-conformance test-clients test-field test-clients-latest test-terraform test-crash test-partition test-load test-pins test-roles test-scale bench plot bench-proxy bench-revocation bench-growth bench-engine bench-credentials bench-usage bench-lists soak fuzz test-programs test-modules test-upstream vault vault-full lint fmt outdated clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-20s %s\n", $$1, $$2 }' Makefile

build: $(PROGRAMS:%=bin/%) ## the three programs into bin/

# Go knows which programs are up to date, so make always asks it.
bin/%: FORCE
	@CGO_ENABLED=0 scripts/progress.sh "Building $@" \
		go build -trimpath -ldflags "-s -w $(LDFLAGS)" -o $@ $(SOURCE_$*)

dev: build vault $(if $(findstring -kms,$(ARGS)),.cache/kms-double) ## the whole system on this machine, until Ctrl-C; ARGS=-keep, -kms, -ha, -agent, -upstream, -sign-in, -servers=FILE: see docs/quickstart.md
	@exec bin/mcp-bootstrap dev -vault-binary "$$(scripts/tool.sh vault)" -kms-double .cache/kms-double $(ARGS)

# Stands in for AWS KMS, and is no program to be shipped.
.cache/kms-double: FORCE
	@CGO_ENABLED=0 go build -o $@ ./test/kms/cmd/kms-double

# A module of its own: see scripts/release/main.go. It builds the commit that is checked out.
RELEASE = [[ "$(origin VERSION)" == "command line" ]] || { echo "give the version: make $@ VERSION=v1.2.3" >&2; exit 2; }; \
	cd scripts/release && go run . -version "$(VERSION)" -out "$(CURDIR)/dist"

package: ## archives, packages and an image for Linux on amd64 and arm64, of the commit that is checked out, into dist/, which must be empty; VERSION=v1.2.3
	@$(RELEASE) linux/amd64 linux/arm64

release: ## the same for macOS, too: everything that a release has; VERSION=v1.2.3
	@$(RELEASE)

test-package: ## packs the commit for this machine, twice, installs it and looks at it, as root; needs rpm: 3 minutes, 8 with a cold cache
	@go vet -C scripts/release . && go test -count=1 -v -timeout 60m -tags packaging $(TESTFLAGS) ./test/packaging

release-check: ## the same for every platform: two builds of the commit must be the same: 14 minutes
	@RELEASE_PLATFORMS=all $(MAKE) --no-print-directory test-package

vault: ## a Vault server: the one on the PATH, else built once and kept in .cache/
	@scripts/tool.sh vault >/dev/null

vault-full: ## a Vault server with every engine, such as database; built like vault, in 10 to 20 minutes
	@scripts/tool.sh vault-full >/dev/null

# The last lines name the parts that this machine lacks for test/field, test/partition and test/browser.
test: test-unit test-blackbox test-net-http-short test-manifests ## every test, with the race detector
	@scripts/field.sh missing | sed 's/^/test\/field was left out, for want of: /'
	@scripts/field.sh missing network | sed 's/^/test\/partition was left out, for want of: /'
	@scripts/field.sh missing slow | sed 's/^/test\/partition left its row about a slow way out, for want of: /'
	@scripts/field.sh missing browser | sed 's/^/test\/browser was left out, for want of: /'
	@scripts/field.sh missing released | sed 's/^/test\/upgrade was left out, for want of: /'
	@scripts/field.sh missing model | sed 's/^/test\/model was left out, for want of: /'
	@scripts/field.sh missing shells | sed 's/^/test\/commands left a shell or the manual out, for want of: /'

test-unit: ## the tests inside the packages
	@scripts/test.sh -race $(if $(FUZZ_SOME),-exec "$(CURDIR)/scripts/fuzz.sh some") $(TESTFLAGS) ./plugin/... ./backend/... ./gateway/... ./bootstrap/...

# FUZZ=./gateway/... takes the targets of some packages. FUZZ_SEED is printed, and repeats the generated inputs.
FUZZ ?= ./...
fuzz: ## every fuzz target for FUZZ_TIME=1m, one after the other, and FUZZ_INPUTS=10000000 requests as Node and net/http read them: 90 minutes
	@FUZZ_TIME="$${FUZZ_TIME:-1m}" scripts/fuzz.sh run $(FUZZ)
	@FUZZ_INPUTS="$${FUZZ_INPUTS:-10000000}" FUZZ_SEED="$${FUZZ_SEED:-$$RANDOM$$RANDOM}" TEST_FIELD=required \
		go test -count=1 -v -timeout 0 -run '^TestManyRequestsAreReadAsOthersReadThem$$' ./gateway/http1

# Most of the black-box tests wait for processes most of the time, so two packages run at once,
# the longest first; but what is promised in the shortest times needs a machine that is not busy
# with something else. Four at once were not faster on two cores.
test-blackbox: vault test-programs test-modules ## the tests of the system as a whole, against a real Vault
	@export TEST_VAULT="$$(scripts/tool.sh vault)" TEST_PROGRAMS="$(CURDIR)/$(RACE)"; \
		scripts/test.sh -race -p 2 -timeout 30m $(TESTFLAGS) ./test/field $$(go list ./test/... | grep -Ev '/test/(field|partition|reliability|upstream|bench/soak)$$') && \
		scripts/test.sh -race -p 1 -timeout 20m $(TESTFLAGS) ./test/partition ./test/reliability ./test/upstream ./test/bench/soak

# The gateway serves clients with Go's own server by a setting, for one release: here, what depends
# on the server most.
test-net-http-short: vault test-programs
	@TEST_HTTP1=net/http TEST_VAULT="$$(scripts/tool.sh vault)" TEST_PROGRAMS="$(CURDIR)/$(RACE)" \
		scripts/test.sh -race -run '^(TestRequestsThatTwoParsersCouldReadInTwoWaysAreRefused|TestPathLeadsToNoOtherServer|TestNothingOfAClientReachesTheServerButWhatTheProtocolNeeds|TestNobodyComesInWithoutAValidToken)$$' ./test/gateway

model: ## checks the models in model/, and that every mistake in model/mutations is found; needs spin and a C compiler (scripts/field.sh install model); part of test-blackbox
	@TEST_FIELD=required go test -count=1 -v $(TESTFLAGS) ./test/model

# A module of its own: see test/manifests/doc.go.
test-manifests: $(RACE)/mcp-gateway ## Kubernetes manifests, the Helm chart, the Dockerfile and systemd's units
	@export TEST_PROGRAMS="$(CURDIR)/$(RACE)"; cd test/manifests && ../../scripts/test.sh -count=1 $(TESTFLAGS) ./...

# The gateway serves clients with Go's own server by a setting, for one release.
test-net-http: vault test-programs test-modules ## the tests of the system as a whole, with gateways whose http1 is "net/http": as long as test-blackbox
	@TEST_HTTP1=net/http $(MAKE) --no-print-directory test-blackbox

# The tests that depend on Vault most: the engine, and the gateway's connections to it.
ON_VAULT ?= ./test/harness ./test/engine ./test/gateway ./test/revocation ./test/sealing ./test/policy ./test/agent

test-openbao: test-programs ## the engine's and the gateway's black-box tests on OpenBao, TEST_VAULT=/path/to/bao or the one on the PATH: 5 minutes; docs/compatibility.md has the differences
	@export TEST_VAULT="$${TEST_VAULT:-$$(command -v bao)}" TEST_PROGRAMS="$(CURDIR)/$(RACE)"; \
		[[ -x $$TEST_VAULT && $$("$$TEST_VAULT" version) == "OpenBao "* ]] || { \
			echo "test-openbao: \"$$TEST_VAULT\" is not OpenBao's program: make test-openbao TEST_VAULT=/path/to/bao" >&2; exit 1; }; \
		"$$TEST_VAULT" version && scripts/test.sh -race -p 2 -timeout 30m -count=1 $(TESTFLAGS) $(ON_VAULT) && \
		go test -count=1 -v -run '^TestDifferencesOnOpenBao$$' ./test/harness

test-vault-version: test-programs ## the same on another version of Vault, VAULT_VERSION=v1.18.0, built from its module first: 5 minutes more, once
	@export TEST_VAULT="$$(scripts/tool.sh "vault@$${VAULT_VERSION:?is missing: make test-vault-version VAULT_VERSION=v1.18.0}")" \
		TEST_PROGRAMS="$(CURDIR)/$(RACE)"; [[ -n $$TEST_VAULT ]] || exit 1; \
		"$$TEST_VAULT" version && scripts/test.sh -race -p 2 -timeout 30m -count=1 $(TESTFLAGS) $(ON_VAULT)

test-conformance: vault test-programs test-modules ## the official MCP suite alone, directly and through the gateway; part of test-blackbox
	@TEST_VAULT="$$(scripts/tool.sh vault)" TEST_PROGRAMS="$(CURDIR)/$(RACE)" \
		go test -race -count=1 -v $(TESTFLAGS) ./test/conformance

test-clients: vault test-programs test-modules ## MCP clients and servers from npm alone; part of test-blackbox
	@TEST_VAULT="$$(scripts/tool.sh vault)" TEST_PROGRAMS="$(CURDIR)/$(RACE)" \
		go test -race -count=1 -v $(TESTFLAGS) ./test/clients

test-field: vault test-programs test-modules ## the system among a company's proxies and networks alone, as root or where user namespaces are allowed: 3 minutes; part of test-blackbox
	@TEST_VAULT="$$(scripts/tool.sh vault)" TEST_PROGRAMS="$(CURDIR)/$(RACE)" \
		go test -race -count=1 -v $(TESTFLAGS) ./test/field

# It needs PostgreSQL and slapd of Debian: scripts/field.sh install upstream.
# UPSTREAM_RUNS=100, UPSTREAM_REPLACEMENTS=1000, UPSTREAM_CLIENTS=200 and UPSTREAM_CHURN=5m
# are the long forms.
test-upstream: vault-full test-programs ## credentials leased from real engines, PostgreSQL and LDAP among them: 10 minutes
	@missing="$$(scripts/field.sh missing upstream)"; if [ -n "$$missing" ]; then \
		echo "test-upstream: missing on this machine (scripts/field.sh install upstream):" >&2; echo "$$missing" >&2; exit 1; fi
	@TEST_VAULT="$$(scripts/tool.sh vault-full)" TEST_OPENLDAP="$$(scripts/tool.sh openldap)" \
		TEST_PROGRAMS="$(CURDIR)/$(RACE)" TEST_UPSTREAM=required \
		go test -race -count=1 -v -p 1 -timeout 180m $(TESTFLAGS) ./test/upstream/...

test-clients-latest: vault test-programs ## the same with the newest version on npm of each client and server, instead of the pinned ones
	@export TEST_VAULT="$$(scripts/tool.sh vault)" TEST_PROGRAMS="$(CURDIR)/$(RACE)" TEST_NPM="$$(scripts/npm.sh test/clients latest)"; \
		go test -race -count=1 -v $(TESTFLAGS) ./test/clients ./test/field

# TEST_TERRAFORM_PROVIDER is the Vault provider's program; without it, the registry's is taken.
test-terraform: vault-full test-programs ## the Terraform module with TEST_TERRAFORM=/path/to/tofu, or terraform or tofu on the PATH, from nothing to nothing: 2 minutes
	@export TEST_TERRAFORM="$${TEST_TERRAFORM:-$$(command -v terraform || command -v tofu)}" \
		TEST_VAULT="$$(scripts/tool.sh vault-full)" TEST_PROGRAMS="$(CURDIR)/$(RACE)"; \
		go test -race -count=1 -v -tags terraform -timeout 20m $(TESTFLAGS) ./test/terraform

test-crash: vault test-programs ## kills Vault and the engine a hundred times; CRASH_KILLS=1000, CRASH_SEED=1 to repeat
	@TEST_VAULT="$$(scripts/tool.sh vault)" TEST_PROGRAMS="$(CURDIR)/$(RACE)" CRASH_KILLS="$${CRASH_KILLS:-100}" \
		go test -race -count=1 -v -timeout 120m $(TESTFLAGS) ./test/crash

test-partition: vault test-programs ## cuts links between gateways, Vault's nodes and clients, as root or where user namespaces are allowed; PARTITION_ROUNDS=10, PARTITION_SEED=1 to repeat
	@TEST_VAULT="$$(scripts/tool.sh vault)" TEST_PROGRAMS="$(CURDIR)/$(RACE)" PARTITION_ROUNDS="$${PARTITION_ROUNDS:-10}" \
		go test -race -count=1 -v -timeout 120m $(TESTFLAGS) ./test/partition

test-roles: build vault ## one role of ROLE_CLIENTS=500 clients, changed while all of them are at two gateways: 2 minutes
	@TEST_VAULT="$$(scripts/tool.sh vault)" TEST_PROGRAMS="$(CURDIR)/bin" ROLE_CLIENTS="$${ROLE_CLIENTS:-500}" \
		go test -count=1 -v -p 1 -timeout 30m -run 'ARole' ./test/policy ./test/revocation

test-pins: build vault ## a server that shows ten thousand other definitions a minute, for PINS_FLOOD=1m: 2 minutes
	@TEST_VAULT="$$(scripts/tool.sh vault)" TEST_PROGRAMS="$(CURDIR)/bin" PINS_FLOOD="$${PINS_FLOOD:-1m}" \
		go test -count=1 -v -timeout 30m -run '^TestPins$$/^a_server_that_changes_all_the_time' ./test/pins

test-load: build vault ## thirty thousand sessions through a gateway, and clients that are slow or greedy: 4 minutes
	@TEST_VAULT="$$(scripts/tool.sh vault)" TEST_PROGRAMS="$(CURDIR)/bin" LOAD_SESSIONS="$${LOAD_SESSIONS:-30000}" \
		go test -count=1 -v -timeout 60m -run '^(TestSessionsLeaveNothingBehind|TestClientsAreSlowOrGreedy)$$' ./test/reliability

test-scale: ## the engine with a million tokens of ten thousand clients, and with 100,000 clients, in memory: 5 minutes, 2 GB
	@SCALE_CLIENTS="$${SCALE_CLIENTS:-10000}" SCALE_TOKENS="$${SCALE_TOKENS:-1000000}" \
		go test -count=1 -v -timeout 60m -run '^(TestAmongManyTokens|TestLookingAtEveryClientHoldsUpNobody)$$' -bench '^BenchmarkLookup$$' -benchtime 20000x ./backend

bench: build vault ## every figure and picture of docs/performance.md, written into it: 28 minutes, on a machine that does nothing else
	@for figures in proxy revocation growth lists engine credentials; do \
		BENCH_OUT="$(CURDIR)/docs/performance" $(MAKE) --no-print-directory bench-$$figures || exit; done
	@$(MAKE) --no-print-directory plot

plot: ## the pictures of docs/performance, and the tables that go with them, from the figures there
	@go run ./test/bench/plot "$(CURDIR)/docs/performance"

bench-growth: build vault ## cost against the number of tokens, servers, streams and others: 2 minutes
	@$(BENCH) go test -count=1 -timeout 60m -run '^$$' -bench '^BenchmarkGrowth$$' -benchtime 1x ./test/bench/growth

bench-proxy: build vault ## the gateway beside a plain reverse proxy: 5 minutes; BENCH_ONLY=pattern, BENCH_ROUNDS=9, BENCH_DURATION=300ms, BENCH_RUNS=1
	@$(BENCH) go test -count=1 -timeout 60m -run '^$$' -bench '^BenchmarkProxy$$' -benchtime 1x ./test/bench/proxy

bench-revocation: build vault ## from a revocation to its last gateway: 3 minutes; BENCH_GATEWAYS=50, BENCH_CLIENTS=10000, BENCH_RATE=30
	@$(BENCH) go test -count=1 -timeout 60m -run '^$$' -bench '^BenchmarkRevocation$$' -benchtime 1x ./test/bench/revocation

soak: build vault ## everything at once for an hour, and nothing may have grown; SOAK_TIME=1h, SOAK_WORKERS=4
	@$(BENCH) SOAK_TIME="$${SOAK_TIME:-1h}" go test -count=1 -timeout 0 -v -run '^TestNothingGrows$$' ./test/bench/soak

bench-engine: build vault ## lookups and leases beside Vault's own: 6 minutes; BENCH_ROUNDS=5, BENCH_DURATION=2s, BENCH_AUDIT=1 with an audit log
	@$(BENCH) go test -count=1 -timeout 60m -run '^$$' -bench '^BenchmarkEngine$$' -benchtime 1x ./test/bench/engine

bench-usage: build vault ## how long reports and reads of usage take: 1 minute; BENCH_CLIENTS=1000
	@$(BENCH) go test -count=1 -timeout 60m -run '^$$' -bench '^BenchmarkUsage$$' -benchtime 1x ./test/bench/engine

bench-lists: build vault ## lists of 100 servers with 50 tools, judged by rules and by pins: 3 minutes; BENCH_SERVERS=100, BENCH_ROUNDS=9, BENCH_DURATION=1s
	@$(BENCH) go test -count=1 -timeout 60m -run '^$$' -bench '^BenchmarkLists$$' -benchtime 1x ./test/bench/lists

bench-credentials: build vault ## the costs of leased credentials, and how fast they end: 6 minutes; BENCH_ROUNDS=9, BENCH_DURATION=300ms, BENCH_NODES=1
	@$(BENCH) go test -count=1 -p 1 -timeout 60m -run '^$$' -bench '^Benchmark(Leased|Credentials|RevokeAll)$$' -benchtime 1x \
		./test/bench/proxy ./test/bench/growth ./test/bench/revocation

# The programs that the black-box tests run: the same, with the race detector.
test-programs: $(PROGRAMS:%=$(RACE)/%)

$(RACE)/%: FORCE
	@CGO_ENABLED=1 scripts/progress.sh "Building $@" \
		go build -race -ldflags "-s -w $(LDFLAGS)" -o $@ $(SOURCE_$*)

# The npm packages that tests run.
test-modules:
	@for folder in test/conformance test/clients test/browser; do scripts/npm.sh $$folder >/dev/null || exit; done

lint: ## the linters of .golangci.yml, of the CI workflow, and of the words and names in docs/
	@"$$(scripts/tool.sh actionlint)" .github/workflows/*.yml
	@go test -count=1 ./test/pages
	@"$$(scripts/tool.sh lint)" run ./...

fmt: ## the formatters of .golangci.yml
	@"$$(scripts/tool.sh lint)" fmt ./...

outdated: ## the direct dependencies of which there is a newer version; docs/dependencies.md says why one is held back
	@go list -m -u -f '{{if and .Update (not .Indirect) (not .Main)}}{{.Path}} {{.Version}}, newest {{.Update.Version}}{{end}}' all | grep . || echo "All direct dependencies are up to date."

clean: ## removes built files; .cache/tools stays, since it takes minutes to build
	rm -rf bin dist $(RACE)

FORCE:
