//! What several integration tests share. A test takes it in with
//! `#[path = "../common/mod.rs"] mod common;` or `mod common;`.

#![allow(dead_code, unreachable_pub, reason = "each test uses its part")]

pub mod netns;
pub mod uml;
