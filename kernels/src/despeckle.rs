//! Takes from a difference what single pixels have and their neighbours have not.
//!
//! Each element of `d = x - l` is limited to the fourth largest of its 3x3 window, itself included, on the side of its sign:
//! `sign(d) * min(|d|, max(fourth, 0))`, each channel by itself. What a threshold leaves of the result are the pixels beyond it with
//! three neighbours beyond it on the same side: as a composition of a rank filter and a minimum it commutes with thresholds
//! (Wendt, Coyle and Gallagher 1986, "Stack filters"). A straight line of two pixels stays, one of a single pixel goes.
//!
//! Beyond the image is its mirror image around the edge pixel; what is mirrored counts twice. What is not a number may stay so, and
//! makes no promise for its neighbours. Bytes: 8 read and 4 written per element.

use cubecl::prelude::*;
use hotad_kernels_macros::outlined;
use rayon::prelude::*;

use crate::border::{Border, mirror};
use crate::device::{View, ViewMut, launch, place, units};
use crate::error::{Result, check_len};
use crate::math;
use crate::shape::{Nhwc, pixel_at, place_of};
use crate::simd::{Wide, by_registers, formulas, lanes_fn};

/// Rows of the output that a task takes at least.
const ROWS: usize = 8;

formulas! {
    /// The four largest of some values, none below 0.
    pub struct Largest {
        /// The largest.
        first,
        /// The next.
        second,
        /// The one after it.
        third,
        /// The smallest of the four.
        fourth,
    }

    /// With one more value.
    pub fn with_value(l: Largest, v: f32) -> Largest {
        let after_first = math::min(l.first, v);
        let after_second = math::min(l.second, after_first);
        let after_third = math::min(l.third, after_second);
        Largest {
            first: math::max(l.first, v),
            second: math::max(l.second, after_first),
            third: math::max(l.third, after_second),
            fourth: math::max(l.fourth, after_third),
        }
    }

    /// A neighbour's difference as one on the side of the centre's: positive where their signs agree.
    pub fn on_side(v: f32, centre: f32) -> f32 {
        math::above(centre, 0.0, v, -v)
    }

    /// What l becomes: as it is where the difference is supported.
    pub fn limited(x: f32, l: f32, fourth: f32) -> f32 {
        let centre = x - l;
        math::above(centre.abs(), fourth, x - math::above(centre, 0.0, fourth, -fourth), l)
    }
}

/// Writes to `y` the `l` whose difference from `x` is despeckled; all of `shape`.
///
/// # Errors
/// When lengths or devices do not fit together.
#[outlined]
pub fn despeckle<'a>(
    x: impl Into<View<'a>>,
    l: impl Into<View<'a>>,
    shape: Nhwc,
    y: impl Into<ViewMut<'a>>,
) -> Result<()> {
    const OP: &str = "despeckle";
    let [n, h, w, c] = shape;
    let total = n * h * w * c;
    for (what, len) in [("x", x.len()), ("l", l.len()), ("y", y.len())] {
        check_len(OP, what, len, total)?;
    }
    match place(OP, &[&x, &l, &y])? {
        None if total == 0 => {}
        None => {
            let (x, l, row) = (x.host(), l.host(), w * c);
            y.host().par_chunks_mut(row).with_min_len(ROWS).enumerate().for_each(|(at, y)| {
                let (image, j) = (at / h * h, at % h);
                let around = [j as i32 - 1, j as i32, j as i32 + 1].map(|p| image + mirrored(p, h));
                let (x, l) = (around.map(|at| &x[at * row..][..row]), around.map(|at| &l[at * row..][..row]));
                despeckled_row(x, l, c, y);
            });
        }
        Some(gpu) => {
            launch!(
                gpu,
                despeckle_kernel,
                units(total),
                x.device().arg(),
                l.device().arg(),
                y.device().arg(),
                total,
                h,
                w,
                c
            );
        }
    }
    Ok(())
}

/// Where position `p` of an axis of `n` lies.
fn mirrored(p: i32, n: usize) -> usize {
    mirror(p, n as i32, Border::Reflect101) as usize
}

lanes_fn! {
    /// One row of y from three rows of x and of l around it.
    fn despeckled_row<L>(x: [&[f32]; 3], l: [&[f32]; 3], c: usize, y: &mut [f32]) {
        let n = y.len();
        // SAFETY: `lanes_fn` runs this only on CPUs with the set of `L`.
        let zero = unsafe { L::splat(0.0) };
        by_registers!(L, n.saturating_sub(2 * c), |part| {
            let centre = part.start + c..part.end + c;
            let (own_x, own_l) = (Wide(zero.read(&x[1][centre.clone()])), Wide(zero.read(&l[1][centre.clone()])));
            let none = Wide(zero);
            let mut largest = wide::Largest { first: none, second: none, third: none, fourth: none };
            for row in 0..3 {
                for column in 0..3 {
                    let from = part.start + column * c..part.end + column * c;
                    let v = Wide(zero.read(&x[row][from.clone()])) - Wide(zero.read(&l[row][from]));
                    largest = wide::with_value(largest, wide::on_side(v, own_x - own_l));
                }
            }
            wide::limited(own_x, own_l, largest.fourth).0.write(&mut y[centre]);
        });
        edge(x, l, 0, c, y);
        edge(x, l, n / c - 1, c, y);
    }
}

/// The pixel of a row in a column that has no neighbour on one side.
fn edge(x: [&[f32]; 3], l: [&[f32]; 3], column: usize, c: usize, y: &mut [f32]) {
    let w = y.len() / c;
    for channel in 0..c {
        let at = |column: usize| column * c + channel;
        let (own_x, own_l) = (x[1][at(column)], l[1][at(column)]);
        let mut largest = Largest { first: 0.0, second: 0.0, third: 0.0, fourth: 0.0 };
        for (x, l) in x.iter().zip(l) {
            for shift in -1..=1 {
                let at = at(mirrored(column as i32 + shift, w));
                largest = with_value(largest, on_side(x[at] - l[at], own_x - own_l));
            }
        }
        y[at(column)] = limited(own_x, own_l, largest.fourth);
    }
}

/// One unit for each element.
#[cube(launch_unchecked)]
fn despeckle_kernel(x: &Array<f32>, l: &Array<f32>, y: &mut Array<f32>, total: usize, h: usize, w: usize, c: usize) {
    let at = ABSOLUTE_POS;
    if at < total {
        let o = place_of(at, h, w, c);
        let (mut first, mut second, mut third, mut fourth) =
            (f32::new(0.0), f32::new(0.0), f32::new(0.0), f32::new(0.0));
        for row in 0..3usize {
            let sy = mirror((o.y + row) as i32 - 1, h as i32, Border::Reflect101) as usize;
            for column in 0..3usize {
                let sx = mirror((o.x + column) as i32 - 1, w as i32, Border::Reflect101) as usize;
                let from = pixel_at(o.image, sy, sx, h, w) * c + o.channel;
                let largest = Largest { first, second, third, fourth };
                let largest = with_value(largest, on_side(x[from] - l[from], x[at] - l[at]));
                first = largest.first;
                second = largest.second;
                third = largest.third;
                fourth = largest.fourth;
            }
        }
        y[at] = limited(x[at], l[at], fourth);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::{Isa, select};

    fn despeckled(x: &[f32], l: &[f32], shape: Nhwc) -> Vec<f32> {
        let mut y = vec![0.0; x.len()];
        despeckle(x, l, shape, &mut y[..]).expect("lengths fit");
        x.iter().zip(y).map(|(x, y)| x - y).collect()
    }

    /// The definition, by sorting.
    fn sorted(d: &[f32], [n, h, w, c]: Nhwc) -> Vec<f32> {
        let beyond = |p: i32, n: usize| match p {
            _ if n == 1 => 0,
            -1 => 1,
            p if p as usize == n => n - 2,
            p => p as usize,
        };
        let mut all = Vec::new();
        for at in 0..n * h * w * c {
            let (image, y, x, k) = (at / (h * w * c), at / (w * c) % h, at / c % w, at % c);
            let sign = if d[at] > 0.0 { 1.0 } else { -1.0 };
            let neighbour = |i: i32| {
                let (sy, sx) = (beyond(y as i32 + i / 3 - 1, h), beyond(x as i32 + i % 3 - 1, w));
                sign * d[((image * h + sy) * w + sx) * c + k]
            };
            let mut window: Vec<f32> = (0..9).map(neighbour).collect();
            window.sort_by(|a, b| b.total_cmp(a));
            all.push(sign * d[at].abs().min(window[3].max(0.0)));
        }
        all
    }

    #[test]
    fn it_is_the_fourth_largest_on_the_side_of_the_sign() {
        let mut state = 1_u32;
        for shape in [[2, 7, 40, 3], [1, 5, 9, 1], [1, 1, 6, 2], [2, 4, 1, 3], [1, 1, 1, 1], [1, 2, 2, 1]] {
            let mut noise = || {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                // Multiples of 1/64, so that differences are exact and values meet again.
                (state >> 26) as f32 / 64.0 - 0.5
            };
            let [x, l] = [(); 2].map(|()| (0..shape.iter().product()).map(|_| noise()).collect::<Vec<f32>>());
            let difference: Vec<f32> = x.iter().zip(&l).map(|(x, l)| x - l).collect();
            for isa in Isa::available() {
                select(isa).expect("it is available");
                assert_eq!(despeckled(&x, &l, shape), sorted(&difference, shape), "{shape:?}, {isa:?}");
            }
        }
    }

    #[test]
    fn what_is_one_pixel_wide_goes_and_lines_of_two_stay() {
        let (w, h) = (24, 9);
        let mut x = vec![0.0; w * h];
        x[3 * w + 4] = 1.0;
        for column in 2..20 {
            x[w + column] = 0.3;
            x[5 * w + column] = 0.5;
            x[6 * w + column] = 0.7;
        }
        let s = despeckled(&x, &vec![0.0; x.len()], [1, h, w, 1]);
        assert!(s[3 * w + 4] == 0.0 && s[w..2 * w].iter().all(|s| *s == 0.0), "a pixel, a line of one: {s:?}");
        assert!((2..20).all(|column| (s[5 * w + column], s[6 * w + column]) == (0.5, 0.5)), "{s:?}");
        assert!(s.iter().zip(&x).all(|(s, x)| s.abs() <= x.abs() && s * x >= 0.0));
    }

    #[test]
    fn lengths_have_to_fit() {
        let refused = despeckle(&[0.0; 4][..], &[0.0; 3][..], [1, 2, 2, 1], &mut [0.0; 4][..]).expect_err("short");
        assert!(refused.to_string().contains('l'), "{refused}");
    }
}
