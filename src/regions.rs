//! Regions of a map: its connected components above a threshold.

use crate::verdict::Region;

/// A component while it grows, in pixels of the map.
#[derive(Clone, Copy)]
struct Component {
    left: usize,
    right: usize,
    top: usize,
    bottom: usize,
    pixels: usize,
    sum: (usize, usize),
    peak: f32,
    peak_at: usize,
}

/// Where a map lies in a frame: its first pixel, and the frame's pixels to one of the map.
#[derive(Clone, Copy, Debug)]
pub struct Placement {
    /// Column and row of the frame.
    pub origin: (usize, usize),
    /// Columns and rows of the frame that the map covers.
    pub covers: (usize, usize),
}

/// Finds regions; its memory is used again.
#[derive(Default)]
pub struct Regions {
    /// Pixels that belong to a component already found, or to none.
    seen: Vec<bool>,
    /// Pixels whose neighbours are still to be looked at.
    next: Vec<u32>,
    found: Vec<Component>,
}

impl Regions {
    /// Takes the memory for maps of so many columns and rows.
    pub fn reserve(&mut self, width: usize, height: usize) {
        self.seen.reserve(width * height);
        self.next.reserve(width * height);
        // No two components touch.
        self.found.reserve(width.div_ceil(2) * height.div_ceil(2));
    }

    /// Puts the regions of a map above `threshold` into `regions`, those with the highest peaks first, at most `most`.
    pub fn find(
        &mut self,
        map: &[f32],
        width: usize,
        threshold: f32,
        place: Placement,
        most: usize,
        regions: &mut Vec<Region>,
    ) {
        self.seen.clear();
        self.seen.extend(map.iter().map(|v| *v <= threshold));
        self.found.clear();
        for start in 0..map.len() {
            if !self.seen[start] {
                let component = self.component(map, width, start);
                self.found.push(component);
            }
        }
        // Of equal peaks the first in the map.
        self.found.sort_unstable_by(|a, b| b.peak.total_cmp(&a.peak).then(a.peak_at.cmp(&b.peak_at)));
        let size = (width, map.len() / width.max(1));
        regions.clear();
        regions.extend(self.found.iter().take(most).map(|c| c.placed(size, place)));
    }

    /// The component that a pixel is of.
    fn component(&mut self, map: &[f32], width: usize, start: usize) -> Component {
        let height = map.len() / width;
        let (x, y) = (start % width, start / width);
        let mut all = Component {
            left: x,
            right: x,
            top: y,
            bottom: y,
            pixels: 0,
            sum: (0, 0),
            peak: map[start],
            peak_at: start,
        };
        self.seen[start] = true;
        self.next.push(start as u32);
        while let Some(at) = self.next.pop() {
            let at = at as usize;
            all.add(at, map[at], width);
            let (x, y) = (at % width, at / width);
            for y in y.saturating_sub(1)..(y + 2).min(height) {
                for x in x.saturating_sub(1)..(x + 2).min(width) {
                    if !std::mem::replace(&mut self.seen[y * width + x], true) {
                        self.next.push((y * width + x) as u32);
                    }
                }
            }
        }
        all
    }
}

impl Component {
    fn add(&mut self, at: usize, value: f32, width: usize) {
        let (x, y) = (at % width, at / width);
        (self.left, self.right) = (self.left.min(x), self.right.max(x));
        (self.top, self.bottom) = (self.top.min(y), self.bottom.max(y));
        self.pixels += 1;
        self.sum = (self.sum.0 + x, self.sum.1 + y);
        if value > self.peak || (value == self.peak && at < self.peak_at) {
            (self.peak, self.peak_at) = (value, at);
        }
    }

    /// In pixels of the frame.
    fn placed(&self, (width, height): (usize, usize), Placement { origin, covers }: Placement) -> Region {
        let (sx, sy) = (covers.0 as f64 / width as f64, covers.1 as f64 / height as f64);
        let first = |at: usize, scale: f64, origin: usize| origin + (at as f64 * scale) as usize;
        // A map's pixel covers some of a frame's pixel at least.
        let end = |at: usize, scale: f64, origin: usize| origin + ((at + 1) as f64 * scale).ceil() as usize;
        let middle = |sum: usize, scale: f64, origin: usize| {
            (origin as f64 + (sum as f64 / self.pixels as f64 + 0.5) * scale) as f32
        };
        let (left, top) = (first(self.left, sx, origin.0), first(self.top, sy, origin.1));
        let (right, bottom) = (end(self.right, sx, origin.0), end(self.bottom, sy, origin.1));
        let (right, bottom) = (right.min(origin.0 + covers.0), bottom.min(origin.1 + covers.1));
        Region {
            left: left as u32,
            top: top as u32,
            width: (right - left) as u32,
            height: (bottom - top) as u32,
            area: (self.pixels as f64 * sx * sy) as f32,
            center_x: middle(self.sum.0, sx, origin.0),
            center_y: middle(self.sum.1, sy, origin.1),
            peak: self.peak,
            peak_x: first(self.peak_at % width, sx, origin.0) as u32,
            peak_y: first(self.peak_at / width, sy, origin.1) as u32,
        }
    }
}
