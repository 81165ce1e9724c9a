//! Layers at the library's boundary: hostile and odd archives, round trips, determinism, overlayfs, many at once.

mod common;
mod hostile;
mod overlay;
mod round_trip;
mod shared;
mod stream;
