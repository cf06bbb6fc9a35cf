//! Who may speak to this cluster: its authority, the tokens, and the keys on record for its nodes.

pub(crate) mod authority;
pub(crate) mod node_keys;
pub(crate) mod records;
pub(crate) mod tokens;
