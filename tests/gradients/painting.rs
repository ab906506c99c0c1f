//! Gated and dilated convolutions, self-attention, spectral normalisation and the losses of inpainting.

use std::sync::Mutex;

use hotad_engine::Activation;
use hotad_engine::ops::{
    ConvParams, add, add_noise, address, conv_transpose2d, conv2d, gated_conv2d, gated_upsample_conv2d, hinge_loss,
    join_rows, masked_input, mean, mix, normalise_rows, paste, reshape, rows, self_attention, spectral_norm,
    weight_entropy, weighted_l1,
};
use hotad_engine::tensor::Tensor;
use hotad_kernels::conv::ConvOptions;

use crate::naive::{Map, apply, naive_conv, naive_upsample, sigmoid};
use crate::{Check, Lookup, compare, layer, narrow, noise};

const SHAPE: [usize; 4] = [1, 8, 6, 3];

fn image(index: u64) -> Map {
    Map { h: SHAPE[1], w: SHAPE[2], c: SHAPE[3], v: noise(SHAPE.iter().product(), 1.0, 200 + index) }
}

/// 1 in a hole of some pixels.
fn hole() -> Vec<f64> {
    (0..48).map(|at| f64::from(u8::from((2..6).contains(&(at / 6)) && at % 6 > 1))).collect()
}

fn on(x: &Tensor, values: &[f64], channels: usize) -> Tensor {
    let t = Tensor::new(narrow(values), &[1, SHAPE[1], SHAPE[2], channels]).expect("lengths fit");
    t.to(&x.device()).expect("memory")
}

fn elu(v: f64) -> f64 {
    if v > 0.0 { v } else { v.exp() - 1.0 }
}

/// Features times gates.
fn naive_gate(x: &Map, act: fn(f64) -> f64) -> Map {
    let c = x.c / 2;
    let pixel = |p: &[f64]| -> Vec<f64> { (0..c).map(|k| act(p[k]) * sigmoid(p[c + k])).collect() };
    Map { c, v: x.v.chunks_exact(x.c).flat_map(pixel).collect(), ..*x }
}

#[test]
fn masked_gated_dilated_and_enlarged_convolutions_with_discounted_l1() {
    let (x, mask) = (image(0), hole());
    let weights = noise(4 * 48, 0.5, 300).iter().map(|v| v.abs()).collect::<Vec<f64>>();
    let dilated = ConvOptions { padding: 2.into(), dilation: 2, ..ConvOptions::default() };
    let halve = ConvOptions { stride: 2, padding: 1.into(), ..ConvOptions::default() };
    let target = noise(48 * 3, 1.0, 301);
    let check = Check {
        shapes: vec![
            ("a.w", vec![4, 3, 3, 5]),
            ("a.b", vec![4]),
            ("d.w", vec![6, 3, 3, 2]),
            ("d.b", vec![6]),
            ("s.w", vec![4, 3, 3, 3]),
            ("s.b", vec![4]),
            ("u.w", vec![6, 3, 3, 2]),
            ("u.b", vec![6]),
        ],
        input: Tensor::new(narrow(&x.v), &SHAPE).expect("lengths fit"),
        engine: &|get, input| {
            let gated = |name: &str, activation| layer(get, name, activation);
            let (elu, mask) = (Activation::Elu(1.0), on(input, &mask, 1));
            let seen = masked_input(input, &mask).expect("fits");
            let h = gated_conv2d(&seen, &gated("a", elu), ConvOptions::same(3)).expect("fits");
            let h = gated_conv2d(&h, &gated("d", Activation::Relu), dilated).expect("fits");
            let h = gated_conv2d(&h, &gated("s", elu), halve).expect("fits");
            let y = gated_upsample_conv2d(&h, &gated("u", elu)).expect("fits");
            let y = paste(&y, input, &mask).expect("fits");
            let weight = on(input, &weights[..48], 1);
            weighted_l1(&y, &on(input, &target, 3), &weight).expect("fits")
        },
        oracle: &|get| {
            let seen = x.v.chunks_exact(3).zip(&mask);
            let seen = seen.flat_map(|(p, m)| [p[0] * (1.0 - m), p[1] * (1.0 - m), p[2] * (1.0 - m), 1.0, *m]);
            let seen = Map { c: 5, v: seen.collect(), ..x };
            let conv = |x: &Map, name: &str, shape, opts| {
                naive_conv(x, &get(&format!("{name}.w")), shape, &get(&format!("{name}.b")), opts)
            };
            let h = naive_gate(&conv(&seen, "a", [4, 3, 3, 5], ConvOptions::same(3)), elu);
            let h = naive_gate(&conv(&h, "d", [6, 3, 3, 2], dilated), |v| v.max(0.0));
            let h = naive_gate(&conv(&h, "s", [4, 3, 3, 3], halve), elu);
            let y = naive_gate(&conv(&naive_upsample(&h), "u", [6, 3, 3, 2], ConvOptions::same(3)), elu);
            let at = |i: usize| {
                let m = mask[i / 3];
                let pasted = y.v[i] * m + x.v[i] * (1.0 - m);
                weights[i / 3] * (pasted - target[i]).abs()
            };
            (0..y.v.len()).map(at).sum::<f64>() / y.v.len() as f64
        },
    };
    assert!(compare(&check, 3e-3) > 80);
}

fn projection(get: Lookup<Tensor>, name: &str) -> ConvParams {
    layer(get, name, Activation::Identity)
}

#[test]
fn self_attention_with_a_learned_residual() {
    let x = image(1);
    let one = ConvOptions::default();
    let check = Check {
        shapes: vec![
            ("f.w", vec![2, 1, 1, 3]),
            ("f.b", vec![2]),
            ("g.w", vec![2, 1, 1, 3]),
            ("g.b", vec![2]),
            ("h.w", vec![3, 1, 1, 3]),
            ("h.b", vec![3]),
            ("gamma", vec![1]),
        ],
        input: Tensor::new(narrow(&x.v), &SHAPE).expect("lengths fit"),
        engine: &|get, input| {
            let [f, g, h] = ["f", "g", "h"].map(|n| conv2d(input, &projection(get, n), one).expect("fits"));
            let y = mix(&self_attention(&f, &g, &h).expect("fits"), &get("gamma"), input).expect("fits");
            weighted_l1(&y, &on(input, &[0.0; 144], 3), &on(input, &[1.0; 48], 1)).expect("fits")
        },
        oracle: &|get| {
            let project = |name: &str, o| {
                naive_conv(&x, &get(&format!("{name}.w")), [o, 1, 1, 3], &get(&format!("{name}.b")), one)
            };
            let (f, g, h) = (project("f", 2), project("g", 2), project("h", 3));
            let mut sum = 0.0;
            for j in 0..48 {
                let score = |i: usize| (0..2).map(|k| f.v[2 * i + k] * g.v[2 * j + k]).sum::<f64>().exp();
                let total: f64 = (0..48).map(score).sum();
                for k in 0..3 {
                    let o: f64 = (0..48).map(|i| score(i) / total * h.v[3 * i + k]).sum();
                    sum += (get("gamma")[0] * o + x.v[3 * j + k]).abs();
                }
            }
            sum / 144.0
        },
    };
    assert!(compare(&check, 3e-3) > 6);
}

#[test]
fn memory_addressed_by_cosines_with_entropy() {
    let x = image(3);
    let (slots, one, threshold) = (7, ConvOptions::default(), 0.13);
    let check = Check {
        shapes: vec![("e.w", vec![4, 1, 1, 3]), ("e.b", vec![4]), ("memory", vec![slots, 1, 1, 4])],
        input: Tensor::new(narrow(&x.v), &SHAPE).expect("lengths fit"),
        engine: &|get, input| {
            let plain = |weight| ConvParams { weight, bias: None, activation: Activation::Identity };
            let z = conv2d(input, &projection(get, "e"), one).expect("fits");
            let memory = normalise_rows(&get("memory")).expect("memory");
            let cosines = conv2d(&normalise_rows(&z).expect("memory"), &plain(memory), one).expect("fits");
            let weights = address(&cosines, threshold).expect("memory");
            let made = conv_transpose2d(&weights, &plain(get("memory")), one).expect("fits");
            let content = weighted_l1(&made, &on(input, &[0.3; 192], 4), &on(input, &[1.0; 48], 1)).expect("fits");
            add(&content, &mean(&weight_entropy(&weights).expect("memory"), 0.2).expect("memory")).expect("numbers")
        },
        oracle: &|get| {
            let z = naive_conv(&x, &get("e.w"), [4, 1, 1, 3], &get("e.b"), one);
            let memory = get("memory");
            let norm = |v: &[f64]| v.iter().map(|v| v * v).sum::<f64>().sqrt();
            let (mut content, mut entropy) = (0.0, 0.0);
            for z in z.v.chunks_exact(4) {
                let cosine = |m: &[f64]| z.iter().zip(m).map(|(a, b)| a * b).sum::<f64>() / (norm(z) * norm(m));
                let e: Vec<f64> = memory.chunks_exact(4).map(|m| cosine(m).exp()).collect();
                let total: f64 = e.iter().sum();
                let cut: Vec<f64> = e.iter().map(|e| if e / total > f64::from(threshold) { *e } else { 0.0 }).collect();
                let kept: f64 = cut.iter().sum();
                let w: Vec<f64> = cut.iter().map(|c| c / kept).collect();
                entropy -= w.iter().filter(|w| **w > 0.0).map(|w| w * w.ln()).sum::<f64>() / 48.0;
                for k in 0..4 {
                    let made: f64 = w.iter().enumerate().map(|(i, w)| w * memory[4 * i + k]).sum();
                    content += (made - 0.3).abs() / 192.0;
                }
            }
            content + 0.2 * entropy
        },
    };
    assert!(compare(&check, 3e-3) > 8);
}

#[test]
fn discriminator_with_spectral_norm_and_hinge() {
    let x = image(2);
    let halve = ConvOptions { stride: 2, padding: 2.into(), ..ConvOptions::default() };
    let shapes = [("a.w", [4, 5, 5, 3]), ("b.w", [2, 5, 5, 4])];
    let start = |rows: usize| -> Vec<f64> { (0..rows).map(|i| 0.3 + 0.1 * i as f64).collect() };
    // One power iteration at the weights of the test; u and v are constants for the gradient.
    let vectors = [0, 1].map(|i: usize| {
        let (rows, columns) = (shapes[i].1[0], shapes[i].1[1..].iter().product::<usize>());
        let w = noise(rows * columns, 0.4, 2 * i as u64);
        let unit = |v: Vec<f64>| {
            let norm = v.iter().map(|v| v * v).sum::<f64>().sqrt();
            v.into_iter().map(|v| v / norm).collect::<Vec<f64>>()
        };
        let u = start(rows);
        let v = unit((0..columns).map(|c| (0..rows).map(|r| w[r * columns + c] * u[r]).sum()).collect());
        (unit((0..rows).map(|r| (0..columns).map(|c| w[r * columns + c] * v[c]).sum()).collect()), v)
    });
    let check = Check {
        shapes: vec![("a.w", shapes[0].1.to_vec()), ("a.b", vec![4]), ("b.w", shapes[1].1.to_vec()), ("b.b", vec![2])],
        input: Tensor::new(narrow(&x.v), &SHAPE).expect("lengths fit"),
        engine: &|get, input| {
            let device = input.device();
            let normal = |name: &str, rows: usize, columns: usize| {
                let put = |v: Vec<f32>| Mutex::new(device.upload(v).expect("memory"));
                let (u, v) = (put(narrow(&start(rows))), put(vec![0.0; columns]));
                let weight = spectral_norm(&get(&format!("{name}.w")), [&u, &v], 1).expect("fits");
                let bias = Some(get(&format!("{name}.b")));
                ConvParams { weight, bias, activation: Activation::LeakyRelu(0.2) }
            };
            let h = conv2d(input, &normal("a", 4, 75), halve).expect("fits");
            let d = conv2d(&h, &normal("b", 2, 100), halve).expect("fits");
            let real = hinge_loss(&d, 0.1, 1.0, 1.0).expect("memory");
            let fooled = mean(&d, -0.7).expect("memory");
            add(&real, &fooled).expect("numbers")
        },
        oracle: &|get| {
            let leaky = |v: f64| if v > 0.0 { v } else { 0.2 * v };
            let normal = |i: usize| -> Vec<f64> {
                let w = get(shapes[i].0);
                let (u, v) = &vectors[i];
                let columns = v.len();
                let along: f64 = (0..w.len()).map(|at| u[at / columns] * w[at] * v[at % columns]).sum();
                w.iter().map(|w| w / along).collect()
            };
            let h = apply(naive_conv(&x, &normal(0), shapes[0].1, &get("a.b"), halve), leaky);
            let d = apply(naive_conv(&h, &normal(1), shapes[1].1, &get("b.b"), halve), leaky);
            let n = d.v.len() as f64;
            d.v.iter().map(|d| (0.1 - d).max(0.0) / n - 0.7 * d / n).sum()
        },
    };
    assert!(compare(&check, 3e-3) > 50);
}

#[test]
fn rows_joined_taken_apart_and_noisy() {
    let x = image(5);
    let check = Check {
        shapes: vec![("f.w", vec![3, 1, 1, 3]), ("f.b", vec![3])],
        input: Tensor::new(narrow(&x.v), &SHAPE).expect("lengths fit"),
        engine: &|get, input| {
            let y = conv2d(input, &projection(get, "f"), ConvOptions::default()).expect("fits");
            let n = y.len() / 3;
            let y = reshape(&y, &[n, 3]).expect("whole rows");
            // Noise of deviation 0 is none; its gradient goes through.
            let both = join_rows(&y, &add_noise(&y, 0.0, 3).expect("few")).expect("rows of one length");
            let first = hinge_loss(&rows(&both, 0, n).expect("inside"), 0.5, 1.0, 1.0).expect("fits");
            add(&first, &hinge_loss(&rows(&both, n + 1, n - 2).expect("inside"), 0.5, -1.0, 1.0).expect("fits"))
                .expect("fits")
        },
        oracle: &|get| {
            let y = naive_conv(&x, &get("f.w"), [3, 1, 1, 3], &get("f.b"), ConvOptions::default());
            let rows: Vec<&[f64]> = y.v.chunks_exact(3).collect();
            let mean = |rows: &[&[f64]], sign: f64| {
                let all: Vec<f64> = rows.iter().flat_map(|r| r.iter().map(|v| (0.5 - sign * v).max(0.0))).collect();
                all.iter().sum::<f64>() / all.len() as f64
            };
            mean(&rows, 1.0) + mean(&rows[1..rows.len() - 1], -1.0)
        },
    };
    assert!(compare(&check, 3e-3) > 2);
}
