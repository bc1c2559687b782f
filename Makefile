# The targets are what CI runs. `make demo` and `make test` need Rust, Python 3, Node and npm; the rest they fetch.

CARGO ?= cargo

.PHONY: help demo test bench fmt lint clean

help: ## These targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "make %-8s %s\n", $$1, $$2}'

demo: ## Build, then run the whole pipeline on simulated seasons and the embedded engine
	@CARGO="$(CARGO)" scripts/demo.sh

test: ## Install what the tests need, then run every check and test
	@CARGO="$(CARGO)" scripts/test.sh

bench: ## Measure, against peers and baselines in the same run
	@CARGO="$(CARGO)" scripts/bench.sh

fmt: ## Format the code
	$(CARGO) fmt

lint: ## Formatting and lints, as CI checks them
	$(CARGO) fmt --check
	$(CARGO) clippy --all-targets -- -D warnings

clean: ## Remove what was built and the demo's state; never the lake or the warehouse of the project
	$(CARGO) clean
	rm -rf .chpipe/demo
