//! Shapes of maps, and where their elements lie.

use cubecl::prelude::*;

/// Shape of a map: images, rows, columns, channels.
pub type Nhwc = [usize; 4];

/// Where an element of a map lies: its image, row, column and channel.
#[derive(CubeType, Clone, Copy)]
pub(crate) struct Place {
    pub image: usize,
    pub y: usize,
    pub x: usize,
    pub channel: usize,
}

/// Element `at` of maps of `h x w x c`.
#[cube]
pub(crate) fn place_of(at: usize, h: usize, w: usize, c: usize) -> Place {
    Place { channel: at % c, x: (at / c) % w, y: (at / (c * w)) % h, image: at / (c * w * h) }
}

/// Number of pixel (`y`, `x`) of an image, counted over images of `h x w`.
#[cube]
pub(crate) fn pixel_at(image: usize, y: usize, x: usize, h: usize, w: usize) -> usize {
    (image * h + y) * w + x
}
