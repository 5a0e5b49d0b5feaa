//! eye-log
