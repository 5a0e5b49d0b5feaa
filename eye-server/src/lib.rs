//! eye-server
