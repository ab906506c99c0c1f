//! Operations with one number as their result.

use hotad_engine::ops::{hinge_loss, loss, mean as mean_of, weight_entropy, weighted_l1};
use hotad_engine::tensor::Tensor;
use hotad_kernels::elementwise::dot;
use hotad_kernels::loss::Loss;

use super::arrays::{mean, total};
use super::{Case, SUM, given, learned, mask, share};

pub const CASES: &[Case] = &[
    Case {
        name: "mse",
        checked: &[&[learned(&[1]), given(&[1])], &[learned(&[70_001]), given(&[70_001])]],
        timed: &[given(&[1 << 21]), given(&[1 << 21])],
        flops: 3.0,
        run: |t| loss(Loss::Mse, &t[0], &t[1]),
        oracle: |a| mean(&a[0].zip(&a[1], |x, y| (x - y).powi(2)), 1.0),
        tolerance: SUM,
    },
    Case {
        name: "l1",
        checked: &[&[learned(&[1]), given(&[1])], &[learned(&[70_001]), given(&[70_001])]],
        timed: &[given(&[1 << 21]), given(&[1 << 21])],
        flops: 3.0,
        run: |t| loss(Loss::L1, &t[0], &t[1]),
        oracle: |a| mean(&a[0].zip(&a[1], |x, y| (x - y).abs()), 1.0),
        tolerance: SUM,
    },
    Case {
        name: "bce",
        checked: &[&[share(&[1]), mask(&[1])], &[share(&[20_001]), mask(&[20_001])]],
        timed: &[share(&[1 << 20]), mask(&[1 << 20])],
        flops: 40.0,
        run: |t| loss(Loss::Bce, &t[0], &t[1]),
        oracle: |a| mean(&a[0].zip(&a[1], |p, t| -(t * p.ln() + (1.0 - t) * (1.0 - p).ln())), 1.0),
        tolerance: SUM,
    },
    Case {
        name: "bce_with_logits",
        checked: &[&[learned(&[1]), mask(&[1])], &[learned(&[20_001]), mask(&[20_001])]],
        timed: &[given(&[1 << 20]), mask(&[1 << 20])],
        flops: 40.0,
        run: |t| loss(Loss::BceWithLogits, &t[0], &t[1]),
        oracle: |a| mean(&a[0].zip(&a[1], |x, t| (1.0 + x.exp()).ln() - x * t), 1.0),
        tolerance: SUM,
    },
    Case {
        name: "weighted_l1",
        checked: &[
            &[learned(&[1, 1, 1, 3]), given(&[1, 1, 1, 3]), given(&[1, 1, 1, 1])],
            &[learned(&[2, 100, 117, 3]), given(&[2, 100, 117, 3]), given(&[2, 100, 117, 1])],
        ],
        timed: &[given(&[8, 256, 256, 3]), given(&[8, 256, 256, 3]), given(&[8, 256, 256, 1])],
        flops: 4.0,
        run: |t| weighted_l1(&t[0], &t[1], &t[2]),
        oracle: |a| {
            let (x, y, w) = (&a[0].values, &a[1].values, &a[2].values);
            mean(&(0..x.len()).map(|i| w[i / 3] * (x[i] - y[i]).abs()).collect::<Vec<f64>>(), 1.0)
        },
        tolerance: SUM,
    },
    Case {
        name: "hinge",
        checked: &[&[learned(&[1])], &[learned(&[1000])], &[learned(&[70_001])]],
        timed: &[given(&[1 << 21])],
        flops: 4.0,
        run: |t| hinge_loss(&t[0], 0.5, -1.0, 2.0),
        oracle: |a| mean(&a[0].map(|d| (0.5 + d).max(0.0)), 2.0),
        tolerance: SUM,
    },
    Case {
        name: "mean",
        // Of one sign, or the sum would be far smaller than its terms.
        checked: &[&[share(&[1])], &[share(&[20_001])]],
        timed: &[share(&[1 << 21])],
        flops: 1.0,
        run: |t| mean_of(&t[0], -0.75),
        oracle: |a| mean(&a[0].values, -0.75),
        tolerance: SUM,
    },
    Case {
        name: "dot",
        checked: &[&[given(&[1]), given(&[1])], &[given(&[70_001]), given(&[70_001])]],
        timed: &[given(&[1 << 20]), given(&[1 << 20])],
        flops: 2.0,
        run: |t| {
            let mut sum = t[0].device().alloc(1)?;
            dot(t[0].view(), t[0].view(), &mut sum)?;
            Tensor::from_buffer(sum, &[1])
        },
        oracle: |a| vec![total(a[0].map(|x| x * x))],
        tolerance: SUM,
    },
    Case {
        name: "weight_entropy",
        checked: &[&[share(&[3, 1])], &[share(&[70, 33])], &[share(&[5, 2000])]],
        timed: &[share(&[1024, 2000])],
        flops: 25.0,
        run: |t| weight_entropy(&t[0]),
        oracle: |a| {
            let rows = a[0].values.len() / a[0].columns();
            vec![-total(a[0].map(|w| w * w.ln())) / rows as f64]
        },
        tolerance: SUM,
    },
];
