//! A binding as the topology keeps it.

use std::sync::Arc;

use super::definitions::BindingDefinition;
use crate::exchange::RouteTarget;

/// A binding, with the places of its ends.
#[derive(Debug, Clone)]
pub(super) struct BoundBinding {
    pub(super) definition: BindingDefinition,
    pub(super) identity: BindingIdentity,
}

/// What makes two bindings the same.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct BindingIdentity {
    pub(super) source: u32,
    pub(super) target: RouteTarget,
    pub(super) routing_key: Arc<str>,
    /// Encoded, sorted by name; empty without arguments.
    pub(super) arguments: Box<[u8]>,
}
