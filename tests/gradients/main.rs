//! Gradients through the tape against finite differences of a naive float64 network that shares no
//! code with the kernels.

#[path = "../cases/mod.rs"]
mod cases;
#[path = "../common/devices.rs"]
mod devices;
#[path = "../common/instruction_sets.rs"]
mod instruction_sets;

mod convolution;
mod inverted_residual;
mod naive;
mod operations;
mod painting;
mod winograd;

use hotad_engine::Activation;
use hotad_engine::device::Device;
use hotad_engine::ops::{
    BatchNormParams, ConvParams, Mode, activate, add, attend, attention_map, batch_norm2d, channel_scale,
    concat_channels, conv_transpose2d, conv2d, dropout, global_avg_pool2d, loss, max_pool2d, reshape, ssim_loss,
    upsample_conv2d,
};
use hotad_engine::params::Params;
use hotad_engine::random;
use hotad_engine::tape::backward;
use hotad_engine::tensor::Tensor;
use hotad_kernels::conv::ConvOptions;
use hotad_kernels::loss::Loss;
use hotad_kernels::pool::PoolOptions;
use hotad_kernels::ssim::SsimOptions;
use rand::Rng;

use naive::{
    Map, apply, averages, hard_sigmoid, naive_conv, naive_norm, naive_pool, naive_ssim, naive_transpose,
    naive_upsample, product, sigmoid, sum_of,
};

fn narrow(v: &[f64]) -> Vec<f32> {
    v.iter().map(|v| *v as f32).collect()
}

/// Random values rounded to f32, so that both sides see the same.
fn noise(n: usize, scale: f64, index: u64) -> Vec<f64> {
    let mut rng = random::stream(11, "gradient test", index);
    (0..n).map(|_| f64::from((rng.random_range(-scale..scale)) as f32)).collect()
}

/// Parameters by name.
type Lookup<'a, T> = &'a dyn Fn(&str) -> T;

/// A network's parameters by name, and both ways of computing its loss.
struct Check<'a> {
    shapes: Vec<(&'a str, Vec<usize>)>,
    engine: &'a dyn Fn(Lookup<Tensor>, &Tensor) -> Tensor,
    /// The image that the network sees.
    input: Tensor,
    oracle: &'a dyn Fn(Lookup<Vec<f64>>) -> f64,
}

/// Compares the loss and every 5th element of every gradient, on every device; returns how many were
/// compared on each.
fn compare(check: &Check, tolerance: f64) -> usize {
    devices::under_test().iter().map(|d| compare_on(d, check, tolerance)).min().unwrap_or(0)
}

fn compare_on(device: &Device, check: &Check, tolerance: f64) -> usize {
    let mut params = Params::default();
    let mut values: std::collections::BTreeMap<&str, Vec<f64>> = std::collections::BTreeMap::new();
    let mut state = hotad_engine::params::State::new();
    for (i, (name, shape)) in check.shapes.iter().enumerate() {
        let v = noise(shape.iter().product(), 0.4, i as u64);
        params.zeros(name, shape);
        state.insert((*name).into(), Tensor::new(narrow(&v), shape).expect("lengths fit"));
        values.insert(name, v);
    }
    params.set_values(&state).expect("shapes fit");
    let params = params.to(device).expect("memory for a small network");
    let tracked = |name: &str| params.get(name, true).expect("parameter exists");
    let value = (check.engine)(&tracked, &check.input.to(device).expect("memory for an image"));
    let base = (check.oracle)(&|name| values[name].clone());
    let got = f64::from(value.item().expect("one number"));
    assert!((got - base).abs() < tolerance * (1.0 + base.abs()), "loss {got}, {base} expected");
    let mut grads = backward(&value).expect("a loss on the tape");
    let mut compared = 0;
    for (name, _) in &check.shapes {
        let grad = grads.take(&tracked(name)).expect("every parameter has a gradient");
        let grad = grad.into_vec().expect("the device has done its work");
        for at in (0..grad.len()).step_by(5) {
            const H: f64 = 1e-5;
            let shifted = |d: f64| {
                (check.oracle)(&|n| {
                    let mut v = values[n].clone();
                    if n == *name {
                        v[at] += d;
                    }
                    v
                })
            };
            let want = (shifted(H) - shifted(-H)) / (2.0 * H);
            let error = (f64::from(grad[at]) - want).abs();
            assert!(error < tolerance * (0.05 + want.abs()), "{name}[{at}]: {} for {want}", grad[at]);
            compared += 1;
        }
    }
    compared
}

const IMAGE: [usize; 4] = [1, 12, 10, 2];

fn image(index: u64) -> Map {
    Map { h: IMAGE[1], w: IMAGE[2], c: IMAGE[3], v: noise(IMAGE.iter().product(), 1.0, 100 + index) }
}

fn layer(get: Lookup<Tensor>, name: &str, activation: Activation) -> ConvParams {
    ConvParams { weight: get(&format!("{name}.w")), bias: Some(get(&format!("{name}.b"))), activation }
}

#[test]
fn patch_autoencoder_with_squared_error() {
    let x = image(0);
    let input = Tensor::new(narrow(&x.v), &IMAGE).expect("lengths fit");
    let check = Check {
        shapes: vec![("a.w", vec![5, 3, 3, 2]), ("a.b", vec![5]), ("b.w", vec![2, 3, 3, 5]), ("b.b", vec![2])],
        input: input.clone(),
        engine: &|get, input| {
            let h = conv2d(input, &layer(get, "a", Activation::LeakyRelu(0.2)), ConvOptions::same(3)).expect("fits");
            let p = max_pool2d(&h, PoolOptions { kernel: 2, stride: 2, padding: 0 }).expect("fits");
            let y = upsample_conv2d(&p, &layer(get, "b", Activation::Identity)).expect("fits");
            loss(Loss::Mse, &y, input).expect("fits")
        },
        oracle: &|get| {
            let h = naive_conv(&x, &get("a.w"), [5, 3, 3, 2], &get("a.b"), ConvOptions::same(3));
            let p = naive_pool(&apply(h, |v| if v > 0.0 { v } else { 0.2 * v }));
            let y = naive_conv(&naive_upsample(&p), &get("b.w"), [2, 3, 3, 5], &get("b.b"), ConvOptions::same(3));
            y.v.iter().zip(&x.v).map(|(a, b)| (a - b) * (a - b)).sum::<f64>() / y.v.len() as f64
        },
    };
    assert!(compare(&check, 2e-3) > 30);
}

#[test]
fn strided_and_transposed_convolutions_with_fan_out() {
    let x = image(1);
    let input = Tensor::new(narrow(&x.v), &IMAGE).expect("lengths fit");
    let halve = ConvOptions { stride: 2, padding: 1.into(), ..ConvOptions::default() };
    // The same weights are used twice, so their gradient comes from two places.
    let check = Check {
        shapes: vec![("a.w", vec![4, 4, 4, 2]), ("a.b", vec![4]), ("d.b", vec![2])],
        input: input.clone(),
        engine: &|get, input| {
            let h = conv2d(input, &layer(get, "a", Activation::Tanh), halve).expect("fits");
            let back = ConvParams { weight: get("a.w"), bias: Some(get("d.b")), activation: Activation::Sigmoid };
            let y = conv_transpose2d(&h, &back, halve).expect("fits");
            loss(Loss::Mse, &y, input).expect("fits")
        },
        oracle: &|get| {
            let h = apply(naive_conv(&x, &get("a.w"), [4, 4, 4, 2], &get("a.b"), halve), f64::tanh);
            let y = naive_transpose(&h, &get("a.w"), [4, 4, 4, 2], &get("d.b"), 2, 1);
            let y = apply(y, |v| 1.0 / (1.0 + (-v).exp()));
            y.v.iter().zip(&x.v).map(|(a, b)| (a - b) * (a - b)).sum::<f64>() / y.v.len() as f64
        },
    };
    assert!(compare(&check, 2e-3) > 25);
}

#[test]
fn autoencoder_with_ssim() {
    let x = image(2);
    let input = Tensor::new(narrow(&x.v), &IMAGE).expect("lengths fit");
    let check = Check {
        shapes: vec![("a.w", vec![2, 3, 3, 2]), ("a.b", vec![2])],
        input: input.clone(),
        engine: &|get, input| {
            let y = conv2d(input, &layer(get, "a", Activation::Identity), ConvOptions::same(3)).expect("fits");
            ssim_loss(&y, input, &SsimOptions::default()).expect("fits")
        },
        oracle: &|get| {
            let y = naive_conv(&x, &get("a.w"), [2, 3, 3, 2], &get("a.b"), ConvOptions::same(3));
            1.0 - naive_ssim(&y, &x)
        },
    };
    assert!(compare(&check, 3e-3) > 7);
}

/// Running statistics that a test does not look at.
fn statistics(device: &Device, channels: usize) -> [std::sync::Mutex<hotad_kernels::device::Buffer>; 2] {
    [0.0, 1.0].map(|v| std::sync::Mutex::new(device.upload(vec![v; channels]).expect("memory")))
}

fn norm(get: Lookup<Tensor>, name: &str, x: &Tensor, residual: Option<&Tensor>, activation: Activation) -> Tensor {
    let channels = x.shape()[3];
    let running = statistics(&x.device(), channels);
    let params = BatchNormParams {
        weight: get(&format!("{name}.g")),
        bias: get(&format!("{name}.b")),
        running: [&running[0], &running[1]],
        eps: 1e-3,
        momentum: 0.1,
    };
    batch_norm2d(x, &params, Mode::Train, residual, activation).expect("fits")
}

fn without_bias(get: Lookup<Tensor>, name: &str) -> ConvParams {
    ConvParams { weight: get(name), bias: None, activation: Activation::Identity }
}

#[test]
fn residual_block_with_batch_norm_and_cross_entropy() {
    let x = image(3);
    let input = Tensor::new(narrow(&x.v), &IMAGE).expect("lengths fit");
    let (same, one) = (ConvOptions::same(3), ConvOptions::default());
    let check = Check {
        shapes: vec![
            ("a", vec![4, 3, 3, 2]),
            ("an.g", vec![4]),
            ("an.b", vec![4]),
            ("s", vec![4, 1, 1, 2]),
            ("sn.g", vec![4]),
            ("sn.b", vec![4]),
            ("f.w", vec![1, 1, 1, 4]),
            ("f.b", vec![1]),
        ],
        input,
        engine: &|get, input| {
            let known = conv2d(input, &without_bias(get, "s"), one).expect("fits");
            let known = norm(get, "sn", &known, None, Activation::Identity);
            let h = conv2d(input, &without_bias(get, "a"), same).expect("fits");
            let y = norm(get, "an", &h, Some(&known), Activation::LeakyRelu(0.1));
            let mean = reshape(&global_avg_pool2d(&y).expect("a map"), &[1, 1, 1, 4]).expect("four values");
            let logit = conv2d(&mean, &layer(get, "f", Activation::Identity), one).expect("fits");
            let target = Tensor::new(vec![1.0], &[1]).expect("one value").to(&logit.device()).expect("memory");
            loss(Loss::BceWithLogits, &logit, &target).expect("fits")
        },
        oracle: &|get| {
            let zero = [0.0; 4];
            let known = naive_conv(&x, &get("s"), [4, 1, 1, 2], &zero, one);
            let known = naive_norm(&known, &get("sn.g"), &get("sn.b"));
            let h = naive_norm(&naive_conv(&x, &get("a"), [4, 3, 3, 2], &zero, same), &get("an.g"), &get("an.b"));
            let y = apply(sum_of(&h, &known), |v| if v > 0.0 { v } else { 0.1 * v });
            (1.0 + (-product(&get("f.w"), &averages(&y), &get("f.b"))[0]).exp()).ln()
        },
    };
    assert!(compare(&check, 3e-3) > 20);
}

#[test]
fn scale_and_shift_learn_under_running_statistics() {
    const MEAN: f64 = 0.3;
    const VARIANCE: f64 = 0.5;
    let x = image(6);
    let check = Check {
        shapes: vec![("a", vec![2, 3, 3, 2]), ("an.g", vec![2]), ("an.b", vec![2])],
        input: Tensor::new(narrow(&x.v), &IMAGE).expect("lengths fit"),
        engine: &|get, input| {
            let h = conv2d(input, &without_bias(get, "a"), ConvOptions::same(3)).expect("fits");
            let put = |v: f64| std::sync::Mutex::new(h.device().upload(vec![v as f32; 2]).expect("memory"));
            let running = [put(MEAN), put(VARIANCE)];
            let params = BatchNormParams {
                weight: get("an.g"),
                bias: get("an.b"),
                running: [&running[0], &running[1]],
                eps: 1e-3,
                momentum: 0.1,
            };
            let y = batch_norm2d(&h, &params, Mode::Fixed, None, Activation::LeakyRelu(0.1)).expect("fits");
            for (kept, v) in running.into_iter().zip([MEAN, VARIANCE]) {
                let kept = kept.into_inner().expect("no panic").into_vec().expect("read");
                assert_eq!(kept, [v as f32; 2], "running statistics stay");
            }
            loss(Loss::Mse, &y, input).expect("fits")
        },
        oracle: &|get| {
            let h = naive_conv(&x, &get("a"), [2, 3, 3, 2], &[0.0; 2], ConvOptions::same(3));
            let (g, b) = (get("an.g"), get("an.b"));
            let errors = h.v.iter().zip(&x.v).enumerate().map(|(i, (h, x))| {
                let y = (h - MEAN) / (VARIANCE + 1e-3).sqrt() * g[i % 2] + b[i % 2];
                (if y > 0.0 { y } else { 0.1 * y } - x).powi(2)
            });
            errors.sum::<f64>() / x.v.len() as f64
        },
    };
    assert!(compare(&check, 3e-3) > 8);
}

#[test]
fn squeeze_and_excitation_with_attention_from_another_branch() {
    let x = image(4);
    let input = Tensor::new(narrow(&x.v), &IMAGE).expect("lengths fit");
    let (same, one) = (ConvOptions::same(3), ConvOptions::default());
    let check = Check {
        shapes: vec![
            ("a.w", vec![3, 3, 3, 2]),
            ("a.b", vec![3]),
            ("e.w", vec![3, 1, 1, 3]),
            ("e.b", vec![3]),
            ("g.w", vec![5, 3, 3, 2]),
            ("g.b", vec![5]),
        ],
        input: input.clone(),
        engine: &|get, input| {
            let h = conv2d(input, &layer(get, "a", Activation::Identity), same).expect("fits");
            let h = activate(&h, Activation::HardSwish).expect("memory");
            let mean = reshape(&global_avg_pool2d(&h).expect("a map"), &[1, 1, 1, 3]).expect("three values");
            let s = conv2d(&mean, &layer(get, "e", Activation::HardSigmoid), one).expect("fits");
            let h = channel_scale(&h, &reshape(&s, &[1, 3]).expect("three values")).expect("fits");
            let g = conv2d(input, &layer(get, "g", Activation::Identity), same).expect("fits");
            let y = attend(&h, &attention_map(&g).expect("a map")).expect("one size");
            let joined = concat_channels(&y, &g).expect("one size");
            let twice = add(&joined, &joined).expect("one shape");
            let target = Tensor::new(vec![0.0; twice.len()], &[twice.len()]).expect("zeros");
            loss(Loss::Mse, &twice, &target.to(&twice.device()).expect("memory")).expect("fits")
        },
        oracle: &|get| {
            let h = naive_conv(&x, &get("a.w"), [3, 3, 3, 2], &get("a.b"), same);
            let h = apply(h, |v| v * hard_sigmoid(v));
            let s: Vec<f64> = product(&get("e.w"), &averages(&h), &get("e.b")).into_iter().map(hard_sigmoid).collect();
            let g = naive_conv(&x, &get("g.w"), [5, 3, 3, 2], &get("g.b"), same);
            let mut sum = 0.0;
            for (h, g) in h.v.chunks_exact(3).zip(g.v.chunks_exact(5)) {
                let m = 1.0 + sigmoid(g.iter().sum::<f64>() / 5.0);
                sum += h.iter().zip(&s).map(|(h, s)| (2.0 * m * h * s).powi(2)).sum::<f64>();
                sum += g.iter().map(|g| (2.0 * g).powi(2)).sum::<f64>();
            }
            sum / (h.h * h.w * 8) as f64
        },
    };
    assert!(compare(&check, 3e-3) > 30);
}

#[test]
fn dropout_drops_its_share_and_the_same_values_of_the_gradient() {
    for device in devices::under_test() {
        let mut params = Params::default();
        params.zeros("x", &[10_000]);
        let ones = Tensor::new(vec![1.0; 10_000], &[10_000]).expect("ones");
        params.set_values(&[("x".to_string(), ones)].into()).expect("one shape");
        let params = params.to(&device).expect("memory");
        let x = params.get("x", true).expect("it exists");
        let y = dropout(&x, 0.3, 5).expect("a probability");
        let values = y.values().expect("read").into_owned();
        let dropped = values.iter().filter(|v| **v == 0.0).count();
        assert!((2_800..3_200).contains(&dropped), "{dropped} of 10000 dropped");
        assert!(values.iter().all(|v| *v == 0.0 || (*v - 1.0 / 0.7).abs() < 1e-6));
        let target = Tensor::new(vec![-1.0; 10_000], &[10_000]).expect("numbers").to(&device).expect("memory");
        let value = loss(Loss::L1, &y, &target).expect("fits");
        let grad = backward(&value).expect("on the tape").take(&x).expect("a gradient").into_vec().expect("read");
        for (g, v) in grad.iter().zip(&values) {
            assert!((g - v / 10_000.0).abs() < 1e-9, "{g} for {v}");
        }
    }
}

#[test]
fn running_statistics_follow_the_batches_and_serve_afterwards() {
    for device in devices::under_test() {
        let running = statistics(&device, 2);
        let ones = Tensor::new(vec![1.0; 2], &[2]).expect("ones").to(&device).expect("memory");
        let zeros = Tensor::new(vec![0.0; 2], &[2]).expect("zeros").to(&device).expect("memory");
        let values: Vec<f32> = (0..12).map(|i| (i * i % 7) as f32).collect();
        let x = Tensor::new(values.clone(), &[1, 2, 3, 2]).expect("lengths fit").to(&device).expect("memory");
        let params = BatchNormParams {
            weight: ones,
            bias: zeros,
            running: [&running[0], &running[1]],
            eps: 1e-5,
            momentum: 0.5,
        };
        for _ in 0..40 {
            batch_norm2d(&x, &params, Mode::Train, None, Activation::Identity).expect("fits");
        }
        let y = batch_norm2d(&x, &params, Mode::Eval, None, Activation::Identity).expect("fits");
        let y = y.values().expect("read").into_owned();
        for k in 0..2 {
            let own: Vec<f64> = values.iter().skip(k).step_by(2).map(|v| f64::from(*v)).collect();
            let mean = own.iter().sum::<f64>() / 6.0;
            let var = own.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / 5.0; // the running one is unbiased
            for (i, v) in own.iter().enumerate() {
                let want = (v - mean) / (var + 1e-5).sqrt();
                assert!((f64::from(y[2 * i + k]) - want).abs() < 1e-4, "{} for {want}", y[2 * i + k]);
            }
        }
    }
}

#[test]
fn every_instruction_set() {
    instruction_sets::run_again();
}
