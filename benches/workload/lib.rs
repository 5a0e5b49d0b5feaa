//! Seeded events.
