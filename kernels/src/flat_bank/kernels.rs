//! What a GPU runs: the nearest of each share of the bank, and the choice among shares.

use cubecl::prelude::*;

/// A squared distance above all others, for before a vector has been looked at.
const NONE_YET: f32 = 3.4e38;
/// Queries and bank vectors of a tile.
pub(super) const TILE: usize = 64;
/// Units along each side of a cube, and elements of a vector at a time.
const SIDE: usize = 16;
/// Queries of a unit, and its bank vectors: every 16th of a tile.
const OWN: usize = TILE / SIDE;
/// Elements from one vector to the next in shared memory: no two units of a line meet in a bank.
const PITCH: usize = SIDE + 1;

/// Sizes of a search, and how the bank is shared among cubes.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
pub(super) struct Shape {
    pub queries: usize,
    /// Vectors of the bank.
    pub vectors: usize,
    pub dim: usize,
    pub query_tiles: usize,
    pub splits: usize,
    /// Bank vectors of a split.
    pub per_split: usize,
}

impl Shape {
    /// As a kernel argument.
    pub fn arg<R: Runtime>(&self) -> ShapeLaunch<R> {
        ShapeLaunch::new(self.queries, self.vectors, self.dim, self.query_tiles, self.splits, self.per_split)
    }
}

/// Bank vectors that were found: their squared distances and numbers.
#[derive(CubeType, CubeLaunch)]
pub(super) struct Found {
    squares: Array<f32>,
    places: Array<u32>,
}

/// Whether (square, place) comes before (other, other place).
#[cube]
fn before(square: f32, place: u32, other: f32, other_place: u32) -> bool {
    square < other || (square == other && place < other_place)
}

/// One cube for 64 queries and a share of the bank: squared distances of a 64 x 64 tile, 4 x 4 to a
/// unit, in registers; only the nearest of the share is written, `[split][query]`.
#[cube(launch_unchecked)]
pub(super) fn nearest_kernel(
    query: &Array<f32>,
    bank: &Array<f32>,
    last: &Found,
    nearest: &mut Found,
    s: Shape,
    #[comptime] after: bool,
) {
    let (first_query, split) = (CUBE_POS % s.query_tiles * TILE, CUBE_POS / s.query_tiles);
    if split < s.splits {
        let mut a = SharedMemory::<f32>::new(comptime!(TILE * PITCH)); // [query][element]
        let mut b = SharedMemory::<f32>::new(comptime!(TILE * PITCH)); // [bank vector][element]
        let mut best = Array::<f32>::new(OWN);
        let mut best_at = Array::<u32>::new(OWN);
        #[unroll]
        for i in 0..OWN {
            best[i] = f32::new(NONE_YET);
            best_at[i] = u32::MAX;
        }
        let end = usize::min((split + 1) * s.per_split, s.vectors);
        let mut first = split * s.per_split;
        while first < end {
            let mut sums = Array::<f32>::new(comptime!(OWN * OWN));
            #[unroll]
            for i in 0..comptime!(OWN * OWN) {
                sums[i] = f32::new(0.0);
            }
            let mut k0 = 0usize;
            while k0 < s.dim {
                sync_cube();
                load_tile(query, bank, &mut a, &mut b, first_query, first, end, k0, s);
                sync_cube();
                add_squares(&a, &b, &mut sums);
                k0 += SIDE;
            }
            keep_nearest(&sums, last, &mut best, &mut best_at, first_query, first, end, s, after);
            first += TILE;
        }
        write_nearest(&best, &best_at, nearest, first_query, split, s);
    }
}

/// Elements from `k0` on of the queries of a tile and of its bank vectors, which end at `end`.
#[cube]
fn load_tile(
    query: &Array<f32>,
    bank: &Array<f32>,
    a: &mut SharedMemory<f32>,
    b: &mut SharedMemory<f32>,
    first_query: usize,
    first: usize,
    end: usize,
    k0: usize,
    s: Shape,
) {
    let (row, column) = (UNIT_POS as usize / SIDE, UNIT_POS as usize % SIDE);
    #[unroll]
    for i in 0..OWN {
        let line = row + SIDE * i;
        let k = k0 + column;
        let mut x = f32::new(0.0);
        let mut y = f32::new(0.0);
        if k < s.dim {
            if first_query + line < s.queries {
                x = query[(first_query + line) * s.dim + k];
            }
            if first + line < end {
                y = bank[(first + line) * s.dim + k];
            }
        }
        a[line * PITCH + column] = x;
        b[line * PITCH + column] = y;
    }
}

/// Adds the squared differences of the elements in shared memory to the sums of a unit.
#[cube]
fn add_squares(a: &SharedMemory<f32>, b: &SharedMemory<f32>, sums: &mut Array<f32>) {
    let (row, column) = (UNIT_POS as usize / SIDE, UNIT_POS as usize % SIDE);
    for k in 0..SIDE {
        let mut x = Array::<f32>::new(OWN);
        let mut y = Array::<f32>::new(OWN);
        #[unroll]
        for i in 0..OWN {
            x[i] = a[(row + SIDE * i) * PITCH + k];
            y[i] = b[(column + SIDE * i) * PITCH + k];
        }
        #[unroll]
        for i in 0..OWN {
            #[unroll]
            for j in 0..OWN {
                let e = x[i] - y[j];
                sums[i * OWN + j] += e * e;
            }
        }
    }
}

/// Keeps the nearest of a tile for each query of a unit, among those `after` the last.
#[cube]
fn keep_nearest(
    sums: &Array<f32>,
    last: &Found,
    best: &mut Array<f32>,
    best_at: &mut Array<u32>,
    first_query: usize,
    first: usize,
    end: usize,
    s: Shape,
    #[comptime] after: bool,
) {
    let (row, column) = (UNIT_POS as usize / SIDE, UNIT_POS as usize % SIDE);
    #[unroll]
    for i in 0..OWN {
        let own = usize::min(first_query + row + SIDE * i, s.queries - 1);
        #[unroll]
        for j in 0..OWN {
            let place = first + column + SIDE * j;
            let square = sums[i * OWN + j];
            let mut fresh = place < end;
            if comptime!(after) {
                fresh = fresh && before(last.squares[own], last.places[own], square, place as u32);
            }
            if fresh && before(square, place as u32, best[i], best_at[i]) {
                best[i] = square;
                best_at[i] = place as u32;
            }
        }
    }
}

/// Writes the nearest that any unit has kept for each query.
#[cube]
fn write_nearest(
    best: &Array<f32>,
    best_at: &Array<u32>,
    nearest: &mut Found,
    first_query: usize,
    split: usize,
    s: Shape,
) {
    let mut found = SharedMemory::<f32>::new(comptime!(TILE * SIDE));
    let mut found_at = SharedMemory::<u32>::new(comptime!(TILE * SIDE));
    let unit = UNIT_POS as usize;
    let (row, column) = (unit / SIDE, unit % SIDE);
    sync_cube();
    #[unroll]
    for i in 0..OWN {
        found[(row + SIDE * i) * SIDE + column] = best[i];
        found_at[(row + SIDE * i) * SIDE + column] = best_at[i];
    }
    sync_cube();
    if unit < TILE && first_query + unit < s.queries {
        let mut top = found[unit * SIDE];
        let mut top_at = found_at[unit * SIDE];
        for i in 1..SIDE {
            if before(found[unit * SIDE + i], found_at[unit * SIDE + i], top, top_at) {
                top = found[unit * SIDE + i];
                top_at = found_at[unit * SIDE + i];
            }
        }
        nearest.squares[split * s.queries + first_query + unit] = top;
        nearest.places[split * s.queries + first_query + unit] = top_at;
    }
}

/// The nearest of all splits becomes neighbour `pass` of `k` of its query. Where no distance is a finite number there is
/// none, and the first vector is named with an infinite one.
#[cube(launch_unchecked)]
pub(super) fn next_kernel(
    nearest: &Found,
    last: &mut Found,
    index: &mut Array<u32>,
    distance: &mut Array<f32>,
    q: usize,
    k: usize,
    pass: usize,
    splits: usize,
) {
    let at = ABSOLUTE_POS;
    if at < q {
        let mut top = nearest.squares[at];
        let mut top_at = nearest.places[at];
        for split in 1..splits {
            let (square, place) = (nearest.squares[split * q + at], nearest.places[split * q + at]);
            if before(square, place, top, top_at) {
                top = square;
                top_at = place;
            }
        }
        if top_at == u32::MAX {
            top_at = 0u32.runtime();
            top = top * top;
        }
        last.squares[at] = top;
        last.places[at] = top_at;
        index[at * k + pass] = top_at;
        distance[at * k + pass] = top.sqrt();
    }
}
