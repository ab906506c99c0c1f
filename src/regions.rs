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

/// Pixels of a row that lie side by side above the threshold: columns from `start` to before `end`.
#[derive(Clone, Copy)]
struct Run {
    start: usize,
    end: usize,
    component: u32,
}

/// Finds regions row by row: the runs of a row join the components of the runs that they touch in the row above (union-find).
/// Its memory is used again.
#[derive(Default)]
pub struct Regions {
    above: Vec<Run>,
    row: Vec<Run>,
    found: Vec<Component>,
    /// For each of `found` the component that it has joined, itself for none.
    joined: Vec<u32>,
}

impl Regions {
    /// The most regions that a map of so many columns and rows can have: no two touch.
    pub fn most(width: usize, height: usize) -> usize {
        width.div_ceil(2) * height.div_ceil(2)
    }

    /// Takes the memory for maps of so many columns and rows.
    pub fn reserve(&mut self, width: usize, height: usize) {
        let runs = width.div_ceil(2);
        // A run for every other pixel.
        self.above.reserve(runs);
        self.row.reserve(runs);
        self.found.reserve(runs * height);
        self.joined.reserve(runs * height);
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
        self.above.clear();
        self.found.clear();
        self.joined.clear();
        for (y, values) in map.chunks_exact(width.max(1)).enumerate() {
            self.runs(values, y, threshold);
            self.join();
            std::mem::swap(&mut self.above, &mut self.row);
        }
        let mut own = self.joined.iter().zip(0..).map(|(joined, i)| *joined == i);
        self.found.retain(|_| own.next().unwrap_or(false));
        // Of equal peaks the first in the map.
        self.found.sort_unstable_by(|a, b| b.peak.total_cmp(&a.peak).then(a.peak_at.cmp(&b.peak_at)));
        let size = (width, map.len() / width.max(1));
        regions.clear();
        regions.extend(self.found.iter().take(most).map(|c| c.placed(size, place)));
    }

    /// Finds the runs of a row, each a component of its own.
    fn runs(&mut self, values: &[f32], y: usize, threshold: f32) {
        self.row.clear();
        let mut x = 0;
        while let Some(start) = values[x..].iter().position(|v| *v > threshold).map(|first| x + first) {
            let length = values[start..].iter().position(|v| *v <= threshold).unwrap_or(values.len() - start);
            x = start + length;
            let component = self.found.len() as u32;
            self.row.push(Run { start, end: x, component });
            self.found.push(Component::of_run(&values[start..x], (start, y), values.len()));
            self.joined.push(component);
        }
    }

    /// Joins the runs of a row with those above that they touch, corners included.
    fn join(&mut self) {
        let mut first = 0;
        for run in 0..self.row.len() {
            let Run { start, end, component } = self.row[run];
            while first < self.above.len() && self.above[first].end < start {
                first += 1;
            }
            for other in first..self.above.len() {
                let above = self.above[other];
                if above.start > end {
                    break;
                }
                self.unite(above.component, component);
            }
        }
    }

    /// Makes one component of two: the one that was found first.
    fn unite(&mut self, a: u32, b: u32) {
        let (a, b) = (self.root(a), self.root(b));
        let (first, later) = (a.min(b), a.max(b));
        if first != later {
            self.joined[later as usize] = first;
            let other = self.found[later as usize];
            self.found[first as usize].merge(&other);
        }
    }

    /// The component that one has ended up in; the way there is halved.
    fn root(&mut self, mut at: u32) -> u32 {
        while self.joined[at as usize] != at {
            let next = self.joined[at as usize];
            self.joined[at as usize] = self.joined[next as usize];
            at = next;
        }
        at
    }
}

impl Component {
    /// Of a run that begins at a column and row of a map with so many columns.
    fn of_run(values: &[f32], (x, y): (usize, usize), width: usize) -> Self {
        let (pixels, last) = (values.len(), x + values.len() - 1);
        let mut highest = 0;
        for (i, value) in values.iter().enumerate() {
            if *value > values[highest] {
                highest = i;
            }
        }
        Self {
            left: x,
            right: last,
            top: y,
            bottom: y,
            pixels,
            sum: ((x + last) * pixels / 2, y * pixels),
            peak: values[highest],
            peak_at: y * width + x + highest,
        }
    }

    fn merge(&mut self, other: &Self) {
        (self.left, self.right) = (self.left.min(other.left), self.right.max(other.right));
        (self.top, self.bottom) = (self.top.min(other.top), self.bottom.max(other.bottom));
        self.pixels += other.pixels;
        self.sum = (self.sum.0 + other.sum.0, self.sum.1 + other.sum.1);
        if other.peak > self.peak || (other.peak == self.peak && other.peak_at < self.peak_at) {
            (self.peak, self.peak_at) = (other.peak, other.peak_at);
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
