//! Goldens and tests over the public parts of the crate: one binary, one module a subject. A case is a folder named for
//! the behaviour; adding one needs no Rust.

mod render;
