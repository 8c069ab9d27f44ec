# One command per thing a person wants to do with the tree.

.PHONY: build test lint bench
build:
	cargo build --release

# Everything that must hold: format, lints, all tests.
test: lint
	cargo test

lint:
	cargo fmt --check
	cargo clippy --all-targets -- -D warnings

bench:
	cargo bench
