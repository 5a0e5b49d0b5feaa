//! Starts servers for tests.
