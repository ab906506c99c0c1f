//! Shapes of maps.

/// Shape of a map: images, rows, columns, channels.
pub type Nhwc = [usize; 4];
