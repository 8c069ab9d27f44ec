# One command for each thing a person wants to do with the tree.

.PHONY: build test lint deps bench
build:
	cargo build --release

# Everything that must hold: format, lints, all tests, those on a real kernel included.
test: deps lint
	cargo test

lint:
	cargo fmt --check
	cargo clippy --all-targets -- -D warnings

# What the tests need besides Rust; nothing where it is there already.
deps:
	tests/install-deps

# Every figure of the README, measured here.
bench: deps
	cargo bench
