# Mekong's commands. `make` alone lists them. What they install goes into ignored folders (.tools, .engines, node_modules).
SHELL := /bin/sh
.DEFAULT_GOAL := help

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
MODULES := proto services sdk/go
PACKAGES := $(addsuffix /...,$(addprefix ./,$(MODULES)))
# The flags of the build, for tests and linter too, so that all of them use the same compiled packages.
GO_TEST := CGO_ENABLED=0 go test -trimpath -timeout 20m -p 2
LINT := CGO_ENABLED=0 GOFLAGS=-trimpath $(CURDIR)/.tools/bin/golangci-lint
HOUSES = $(filter-out ./services/...,$(PACKAGES)) $$(go list ./services/... | grep -v /services/e2e)
GO_BUILD := CGO_ENABLED=0 go build -trimpath -tags webdist -ldflags "-s -w -X main.version=$(VERSION)"
BIOME := .tools/node/node_modules/.bin/biome
WEB_DIST := services/internal/web/dist
WEB_SOURCES := $(shell find web -path web/node_modules -prune -o -path web/dist -prune -o -path web/e2e -prune -o -type f -not -name '.*' -print 2>/dev/null)

##@ Use
.PHONY: up
up: engines build ## build and start everything on this machine with the demo workspace (DEMO=0: empty); Ctrl-C stops it
	@exec bin/mekong up $(if $(filter 0,$(DEMO)),,--demo)

.PHONY: build
build: $(WEB_DIST)/index.html ## bin/mekong with the web pages inside
	@tools/go-tools.sh --need
	@$(GO_BUILD) -o bin/mekong ./services/cmd/mekong

.PHONY: kafka-real
kafka-real: ## a real Apache Kafka on 127.0.0.1:29092, in the foreground, for tests and local use
	@tools/kafka.sh
	@exec tools/kafka/run.sh

##@ Check
.PHONY: test
test: engines-test tools lint test-race test-go test-e2e test-web test-browser ## everything that must hold, from a fresh clone

.PHONY: test-fast
test-fast: engines ## all Go tests without black-box, browser and real Kafka, and no lint
	@$(GO_TEST) -skip RealKafka $(HOUSES)

.PHONY: test-go test-race test-e2e test-web test-browser
test-go: engines-test # with a real Apache Kafka where a suite asks for one
	@$(GO_TEST) $(HOUSES)
test-race: # -short: engines are slow under the race detector and find little there; what only wires or wraps stays out
	@CGO_ENABLED=1 go test -race -short -timeout 20m -p 2 $$(go list ./sdk/go/... ./services/... | grep -vE '/(e2e|bench|cmd|app|web|blob|jobs|embedded)(/|$$)')
test-e2e: engines-test build tools # alone, because it wants both processors
	@tools/os-packages.sh
	@$(GO_TEST) -p 1 -skip Chaos ./services/e2e/...
test-web: web-deps
	@cd web && npm run --silent test
test-browser: engines build web-deps
	@tools/os-packages.sh
	@tools/browser-test.sh

.PHONY: verify
verify: engines-test build chaos ## the long proofs: kill ledger, permutation and differential runs at full size
	@MEKONG_TEST_SIZE=full go test -timeout 4h -p 1 -count=1 -v -skip Chaos ./services/e2e/...

.PHONY: chaos
chaos: engines-test build ## the fault days alone
	@MEKONG_TEST_SIZE=full go test -timeout 4h -p 1 -count=1 -v -run Chaos ./services/e2e/...

.PHONY: bench
bench: engines build ## all benchmarks with their yardsticks; writes bench/results/<date>.md
	@exec bench/run.sh

.PHONY: check
check: fmt generate lint ## format, generate, lint, and fail when that changed a file
	@git diff --exit-code --stat || { echo "make check changed the files above: look at the difference and commit it."; exit 1; }
	@test -z "$$(git ls-files --others --exclude-standard)" || { git ls-files --others --exclude-standard; echo "the files above are not committed: add or ignore them."; exit 1; }

.PHONY: lint
lint: tools web-deps ## protos, Go, web
	@tools/proto-lint.sh
	@for module in $(MODULES); do (cd $$module && $(LINT) run --allow-serial-runners ./...) || exit 1; done
	@$(BIOME) ci --error-on-warnings web tools
	@cd web && npm run --silent typecheck

##@ Work
.PHONY: fmt
fmt: tools ## format everything
	@for module in $(MODULES); do (cd $$module && $(LINT) fmt ./...) || exit 1; done
	@$(BIOME) check --write web tools

.PHONY: generate
generate: ## Go code and the OpenAPI document from proto/
	@tools/generate.sh

.PHONY: baseline
baseline: ## accept the protos as they are as the new baseline of the breaking check (only on purpose)
	@tools/proto-lint.sh --baseline

.PHONY: release
release: $(WEB_DIST)/index.html ## dist/: binaries, checksums, bill of materials
	@VERSION=$(VERSION) tools/release.sh

.PHONY: clean
clean: ## remove what was built; engines, tools and data stay
	@rm -rf bin dist web/dist $(WEB_DIST) .tools/openapi

##@ Install
.PHONY: engines engines-test tools web-deps
engines: ## the embedded engines, into .engines
	@tools/engines.sh
engines-test: engines ## the same, and Apache Kafka's jars for the tests
	@tools/kafka.sh
tools: ## linters, generators and test clients, into .tools
	@tools/node-tools.sh
	@tools/go-tools.sh golangci-lint
	@tools/python.sh
web-deps:
	@tools/web-deps.sh

$(WEB_DIST)/index.html: $(WEB_SOURCES)
	@tools/web-deps.sh
	@cd web && npm run --silent build
	@rm -rf $(WEB_DIST) && cp -R web/dist $(WEB_DIST)

.PHONY: help
help:
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} /^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
