//! Nothing: this package has only tests. See `tests/main.rs`.
