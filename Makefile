# One command for each thing a person wants to do with the tree.

CARGO_DEB = target/tools/bin/cargo-deb

.PHONY: build test lint deps bench traffic deb
build:
	cargo build --release

# Everything that must hold: format, lints, all tests, those on a real kernel and of the package included.
test: deps lint $(CARGO_DEB)
	cargo test

lint:
	cargo fmt --check
	cargo clippy --all-targets -- -D warnings

# What the tests need besides Rust; nothing where it is there already.
deps:
	tests/install-deps

# The table of figures in the README, measured here.
bench: deps
	cargo bench

# What users notice of each heading of docs/SAFETY.md: requests, failures, longest gap. Part of `test`, which
# shows no numbers.
traffic: deps
	cargo test --test traffic -- --nocapture --test-threads=1

# The Debian package, in target/debian.
deb: build $(CARGO_DEB)
	cargo run --example generate -- target/package
	$(CARGO_DEB) --no-build

# What makes packages.
$(CARGO_DEB):
	cargo install --locked cargo-deb --version 3.8.0 --root target/tools
