//! eye-index
