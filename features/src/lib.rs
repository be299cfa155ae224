//! No code: this package only pins the feature sets of dependencies that several packages share, so that
//! `cargo test -p one-package` and `cargo test --workspace` use the same compiled artefacts. Without it every choice of
//! packages gives another set, and burn, minutes of compilation, would be built again for each.
