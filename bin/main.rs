//! hotad.
fn main() {}
