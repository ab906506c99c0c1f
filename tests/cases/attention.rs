//! Self-attention over the positions of a map (Zhang et al. 2019, "Self-attention generative adversarial networks", equations 1 to 3).

use hotad_engine::ops::self_attention;

use super::{Array, Case, given, learned};

/// `o_j = sum over i of softmax over i (f_i . g_j) h_i`.
fn attended(a: &[Array]) -> Vec<f64> {
    let positions = a[0].shape[1] * a[0].shape[2];
    let image = |map: &Array, i: usize| {
        map.rows().skip(i * positions).take(positions).map(<[f64]>::to_vec).collect::<Vec<Vec<f64>>>()
    };
    let mut out = Vec::new();
    for i in 0..a[0].shape[0] {
        let [keys, queries, values] = [0, 1, 2].map(|input| image(&a[input], i));
        for query in &queries {
            let score = |key: &Vec<f64>| key.iter().zip(query).map(|(f, g)| f * g).sum::<f64>().exp();
            let scores: Vec<f64> = keys.iter().map(score).collect();
            let sum: f64 = scores.iter().sum();
            let value = |c: usize| scores.iter().zip(&values).map(|(s, h)| s / sum * h[c]).sum::<f64>();
            out.extend((0..a[2].columns()).map(value));
        }
    }
    out
}

pub const CASES: &[Case] = &[Case {
    name: "self_attention",
    checked: &[
        // One position attends to itself whatever the scores: keys and queries have no gradient.
        &[given(&[1, 1, 1, 1]), given(&[1, 1, 1, 1]), learned(&[1, 1, 1, 1])],
        &[learned(&[2, 5, 9, 3]), learned(&[2, 5, 9, 3]), learned(&[2, 5, 9, 17])],
        &[learned(&[1, 10, 10, 20]), learned(&[1, 10, 10, 20]), learned(&[1, 10, 10, 70])],
        &[learned(&[3, 8, 8, 16]), learned(&[3, 8, 8, 16]), learned(&[3, 8, 8, 64])],
    ],
    timed: &[given(&[1, 32, 32, 16]), given(&[1, 32, 32, 16]), given(&[1, 32, 32, 128])],
    flops: 2.0 * 1024.0 * (16.0 + 128.0) / 16.0,
    run: |t| self_attention(&t[0], &t[1], &t[2]),
    oracle: attended,
    tolerance: 1e-4,
}];
