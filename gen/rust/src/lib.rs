//! Stubs of Reflexio, the service that keeps every interaction between people and AI agents.
//!
//! Generated from the contract by `scripts/generate`; README.md shows how to use them.

/// The package `reflexio.v1` of the contract.
#[allow(clippy::doc_lazy_continuation)]
pub mod v1 {
    include!("reflexio/v1/reflexio.v1.rs");
}
