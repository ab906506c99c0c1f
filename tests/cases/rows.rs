//! Operations on the vectors along an axis.

use hotad_engine::ops::{address, join_rows, normalise_rows, rows};
use hotad_engine::tensor::Tensor;
use hotad_kernels::softmax::{log_sum_exp, softmax};

use super::arrays::total;
use super::{Array, Case, ELEMENT, SUM, given, learned};

/// The exponentials of a vector over their sum.
fn shares(row: &[f64]) -> Vec<f64> {
    let powers: Vec<f64> = row.iter().map(|v| v.exp()).collect();
    let sum = total(powers.iter().copied());
    powers.into_iter().map(|p| p / sum).collect()
}

/// The share below which a weight is cut.
fn threshold(slots: usize) -> f32 {
    0.9 / slots as f32
}

/// The vectors along the middle one of three axes.
fn lines(x: &Array) -> Vec<Vec<f64>> {
    let (len, inner) = (x.shape[1], x.shape[2]);
    let line = |l: usize| (0..len).map(|k| x.values[(l / inner * len + k) * inner + l % inner]).collect();
    (0..x.shape[0] * inner).map(line).collect()
}

fn axis(x: &Tensor) -> [usize; 3] {
    x.shape().try_into().expect("three axes")
}

pub const CASES: &[Case] = &[
    Case {
        name: "normalise_rows",
        checked: &[&[learned(&[70, 33])], &[learned(&[5, 2000])], &[given(&[3, 1])]],
        timed: &[given(&[4096, 128])],
        flops: 3.0,
        run: |t| normalise_rows(&t[0]),
        oracle: |a| {
            let unit = |row: &[f64]| {
                let norm = row.iter().map(|v| v * v).sum::<f64>().sqrt();
                row.iter().map(|v| v / norm).collect::<Vec<f64>>()
            };
            a[0].rows().flat_map(unit).collect()
        },
        tolerance: SUM,
    },
    Case {
        name: "address",
        checked: &[&[learned(&[70, 33])], &[learned(&[5, 2000])], &[given(&[3, 1])]],
        timed: &[given(&[1024, 2000])],
        flops: 25.0,
        run: |t| address(&t[0], threshold(t[0].shape()[1])),
        oracle: |a| {
            let cut = |row: &[f64]| {
                let least = f64::from(threshold(row.len()));
                let kept: Vec<f64> = shares(row).into_iter().map(|p| if p > least { p } else { 0.0 }).collect();
                let sum: f64 = kept.iter().sum();
                kept.into_iter().map(|p| p / sum).collect::<Vec<f64>>()
            };
            a[0].rows().flat_map(cut).collect()
        },
        tolerance: SUM,
    },
    Case {
        name: "softmax",
        checked: &[&[given(&[5, 301, 1])], &[given(&[2, 7, 33])], &[given(&[1, 1, 4])]],
        timed: &[given(&[1024, 1000, 1])],
        flops: 22.0,
        run: |t| {
            let mut y = t[0].device().alloc(t[0].len())?;
            softmax(t[0].view(), axis(&t[0]), &mut y)?;
            Tensor::from_buffer(y, t[0].shape())
        },
        oracle: |a| {
            let (inner, mut y) = (a[0].shape[2], vec![0.0; a[0].values.len()]);
            for (l, line) in lines(&a[0]).iter().enumerate() {
                for (k, share) in shares(line).into_iter().enumerate() {
                    y[(l / inner * line.len() + k) * inner + l % inner] = share;
                }
            }
            y
        },
        tolerance: SUM,
    },
    Case {
        name: "log_sum_exp",
        checked: &[&[given(&[5, 301, 1])], &[given(&[2, 7, 33])], &[given(&[1, 1, 4])]],
        timed: &[given(&[1024, 1000, 1])],
        flops: 21.0,
        run: |t| {
            let [outer, _, inner] = axis(&t[0]);
            let mut y = t[0].device().alloc(outer * inner)?;
            log_sum_exp(t[0].view(), axis(&t[0]), &mut y)?;
            Tensor::from_buffer(y, &[outer, inner])
        },
        oracle: |a| lines(&a[0]).iter().map(|line| total(line.iter().map(|v| v.exp())).ln()).collect(),
        tolerance: SUM,
    },
    Case {
        name: "join_rows",
        checked: &[&[learned(&[1, 1]), learned(&[2, 1])], &[learned(&[3, 5, 7]), learned(&[2, 5, 7])]],
        timed: &[given(&[4096, 128]), given(&[4096, 128])],
        flops: 0.0,
        run: |t| join_rows(&t[0], &t[1]),
        oracle: |a| [a[0].values.clone(), a[1].values.clone()].concat(),
        tolerance: ELEMENT,
    },
    Case {
        name: "rows",
        checked: &[&[learned(&[4, 1])], &[learned(&[4, 5, 7])]],
        timed: &[given(&[4, 1 << 19])],
        flops: 0.0,
        run: |t| rows(&t[0], 1, 2),
        oracle: |a| a[0].values[a[0].values.len() / 4..][..a[0].values.len() / 2].to_vec(),
        tolerance: ELEMENT,
    },
];
