# Everything that people and CI run. `make` alone says what there is.
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
AREA ?= local
AREAS := local hs2 runtimes replicas chaos shuffle yarn kube
SOAK ?= 20m
VERSION ?= 0.1.0-dev
BENCHSTAT := golang.org/x/perf/cmd/benchstat@v0.0.0-20260908200009-22c9c6c9d4da
LINT := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
FUZZTIME ?= 20s

.PHONY: help build run demo test test-all unit lint e2e soak compat clients bench micro fuzz generate clean

help: ## this list
	@grep -E '^[a-z0-9-]+:.*## ' Makefile | sed -E 's/:.*## /\t/' | expand -t 12

build: ## bin/sluice
	@command -v go >/dev/null || { echo "Go is missing: install Go $$(sed -n 's/^go //p' go.mod) or newer"; exit 1; }
	CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X main.version=$(VERSION)" -o bin/sluice ./cmd/sluice

run: build ## serve on 127.0.0.1:10009 until Ctrl-C
	exec bin/sluice gateway

demo: build ## gateway, stock Beeline, a small ETL in SQL on a real Spark
	tests/demo/demo.sh

test: ## what must hold before a commit lands
	@rm -f build/skipped
	@$(MAKE) --no-print-directory unit
	@for area in $(filter-out chaos,$(AREAS)); do $(MAKE) --no-print-directory e2e AREA=$$area SHORT=-short; done
	@$(MAKE) --no-print-directory compat
	@if [ -s build/skipped ]; then echo; echo "Not run on this machine:"; cat build/skipped; fi

test-all: lint unit compat fuzz soak ## everything, with what takes long
	@for area in $(AREAS); do $(MAKE) --no-print-directory e2e AREA=$$area; done

unit: ## tests without servers
	go test -race -count=1 ./cmd/... ./engines/... ./gateway/... ./router/... ./shuffle/... ./tests/arch/ ./tests/shufflesim/

lint:
	go vet -tags e2e ./...
	go run $(LINT) run ./...

e2e: build ## real servers and stock clients: AREA=local, hs2, runtimes, replicas, chaos, shuffle, yarn, kube
	go test -count=1 -timeout 30m -tags e2e $(SHORT) ./tests/e2e/$(AREA)/...

soak: build ## 11,000 sessions for SOAK (20m)
	SLUICE_TEST_SOAK=$(SOAK) go test -count=1 -timeout 2h -v -tags e2e ./tests/e2e/soak/

compat: build ## every stock client through a real Spark, against docs/clients.md, and a corpus against Spark's own server; RUN=TestX
	@rm -rf build/clients
	go test -count=1 -p 1 -timeout 30m -tags e2e $(if $(RUN),-run '$(RUN)') ./tests/compat/...
	go run -tags e2e ./tests/compat/table -check

clients: build ## docs/clients.md anew, from a run of all clients
	@rm -rf build/clients
	go test -count=1 -p 1 -timeout 30m -tags e2e ./tests/compat/ ./tests/compat/iceberg/
	go run -tags e2e ./tests/compat/table

bench: build ## AREA=hs2, yarn or kubernetes; ONLY=small,jdbc for some of it; writes build/bench/AREA.json
	go run -tags e2e ./tests/bench -area $(if $(filter local,$(AREA)),hs2,$(AREA)) -only '$(ONLY)'

micro: ## micro-benchmarks; BASE=COMMIT compares with that one
	@mkdir -p build/bench
	go test -run '^$$' -bench . -count 6 ./engines/... ./gateway/... ./shuffle/... | tee build/bench/micro.txt
	@if [ -n "$(BASE)" ]; then \
	  git worktree add -q --detach build/base $(BASE); trap 'git worktree remove --force build/base' EXIT; \
	  go test -C build/base -run '^$$' -bench . -count 6 ./engines/... ./gateway/... ./shuffle/... > build/bench/base.txt; \
	  go run $(BENCHSTAT) build/bench/base.txt build/bench/micro.txt; fi

fuzz: ## every fuzz target, FUZZTIME each
	for p in $$(go list ./engines/... ./gateway/... ./router/... ./shuffle/...); do \
	  for f in $$(go test -list '^Fuzz' $$p | grep '^Fuzz' || true); do go test -run '^$$' -fuzz "^$$f$$" -fuzztime $(FUZZTIME) $$p; done; done

generate: ## what is made from .proto and .thrift; needs protoc and thrift
	go generate ./engines/... ./gateway/... ./shuffle/...

clean:
	rm -rf bin build
