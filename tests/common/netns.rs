//! namespaces (next)
