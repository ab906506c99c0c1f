//! Scores of members: brought to one scale, combined.

use hotad_engine::random;
use hotad_models::ensemble::calibration::{Rule, Scale};
use hotad_models::ensemble::combination::{Combination, Combine, by_skill};
use hotad_models::ensemble::evidence::Sample;
use hotad_models::ensemble::isotonic::Isotonic;
use hotad_models::ensemble::logistic::Logistic;

#[test]
fn scores_of_normal_images_are_brought_to_one_scale() {
    let normal = (0..=1000).map(|i| 10.0 + i as f32 / 100.0).collect();
    let sample = Sample { normal, defective: (0..300).map(|i| 18.0 + i as f32 / 40.0).collect() };
    let scale = |rule| Scale::of(rule, &sample);
    for rule in [Rule::Minmax, Rule::Quantile, Rule::Logistic, Rule::Platt, Rule::Isotonic] {
        let scale = scale(rule);
        assert!(scale.is_whole());
        let values: Vec<f32> = (0..40).map(|i| scale.apply(9.0 + i as f32 / 3.0)).collect();
        assert!(values.windows(2).all(|w| w[1] >= w[0]), "{rule:?} does not rise: {values:?}");
        assert!(scale.apply(30.0) > scale.apply(21.0), "{rule:?} does not rank anomalies");
    }
    assert!((scale(Rule::Minmax).apply(15.0) - 0.5).abs() < 1e-5);
    assert!((scale(Rule::Quantile).apply(12.5) - 0.25).abs() < 1e-5);
    assert!((scale(Rule::Logistic).apply(19.9) - 0.5).abs() < 1e-5);
    assert!(scale(Rule::Minmax).votes(19.95) && !scale(Rule::Minmax).votes(19.8));
}

/// Scores of normal images and defects that overlap, with some that are equal.
fn overlapping(seed: u64) -> (Vec<f32>, Vec<f32>) {
    let mut rng = random::stream(seed, "scores", 0);
    let mut draw = |n: usize, around: f32| -> Vec<f32> {
        (0..n).map(|_| ((around + random::normal(&mut rng)) * 8.0).round() / 8.0).collect()
    };
    (draw(40, 0.0), draw(25, 1.0))
}

/// The isotonic fit at a score by the min-max formula: the largest over beginnings of the smallest over ends of the mean
/// target of a run of scores around it.
fn min_max(normal: &[f32], defective: &[f32], at: f32) -> f64 {
    let all = |s: &f32, t: f64, n: usize| (*s, t, 1.0 / n as f64);
    let mut points: Vec<(f32, f64, f64)> = normal.iter().map(|s| all(s, 0.0, normal.len())).collect();
    points.extend(defective.iter().map(|s| all(s, 1.0, defective.len())));
    let mean = |a: f32, b: f32| {
        let (sum, weight) = points
            .iter()
            .filter(|(s, ..)| *s >= a && *s <= b)
            .fold((0.0, 0.0), |(sum, weight), (_, t, w)| (sum + t * w, weight + w));
        sum / weight
    };
    let least = |a: f32| points.iter().filter(|p| p.0 >= at).map(|p| mean(a, p.0)).fold(f64::INFINITY, f64::min);
    points.iter().filter(|p| p.0 <= at).map(|p| least(p.0)).fold(f64::NEG_INFINITY, f64::max)
}

#[test]
fn isotonic_calibration_is_the_min_max_formula() {
    for seed in 0..5 {
        let (normal, defective) = overlapping(seed);
        let fit = Isotonic::fit(&normal, &defective);
        for score in normal.iter().chain(&defective) {
            let (got, want) = (f64::from(fit.apply(*score)), min_max(&normal, &defective, *score));
            assert!((got - want).abs() < 1e-6, "{score}: {got}, {want} expected");
        }
        // Between two scores, between their values.
        for pair in [-0.03f32, 0.44, 1.07] {
            assert!(fit.apply(pair - 0.01) <= fit.apply(pair) && fit.apply(pair) <= fit.apply(pair + 0.01));
        }
    }
}

/// Platt's loss at `w x + b`, each class weighing 1.
fn platt_loss(normal: &[f32], defective: &[f32], w: f64, b: f64) -> f64 {
    let side = |scores: &[f32], target: f64| {
        let each = scores.iter().map(|s| {
            let p = 1.0 / (1.0 + (-(w * f64::from(*s) + b)).exp());
            -(target * p.ln() + (1.0 - target) * (1.0 - p).ln())
        });
        each.sum::<f64>() / scores.len() as f64
    };
    let (m, n) = (normal.len() as f64, defective.len() as f64);
    side(normal, 1.0 / (m + 2.0)) + side(defective, (n + 1.0) / (n + 2.0))
}

/// Where a function with one valley is least.
fn valley(f: impl Fn(f64) -> f64) -> f64 {
    let (mut low, mut high) = (-30.0, 30.0);
    for _ in 0..200 {
        let (a, b) = (low + (high - low) / 3.0, high - (high - low) / 3.0);
        if f(a) < f(b) { high = b } else { low = a }
    }
    (low + high) / 2.0
}

#[test]
fn platt_calibration_is_where_its_loss_is_least() {
    for seed in 0..3 {
        let (normal, defective) = overlapping(seed);
        let best = |w: f64| valley(|b| platt_loss(&normal, &defective, w, b));
        let w = valley(|w| platt_loss(&normal, &defective, w, best(w)));
        let wide = |v: &[f32]| v.iter().map(|v| f64::from(*v)).collect::<Vec<_>>();
        let got = Logistic::fit(&wide(&normal), &wide(&defective), 1, 0.0);
        // The search is as exact as the square root of the loss's rounding.
        let close = |a: f64, b: f64| (a - b).abs() < 1e-5 * b.abs().max(1.0);
        assert!(close(got.weights[0], w) && close(got.intercept, best(w)), "{got:?}, {w} {} expected", best(w));
        // Classes that can be told apart without error have a finite slope.
        let apart = Logistic::fit(&[0.0, 1.0], &[2.0, 3.0], 1, 0.0);
        assert!(apart.weights[0] > 0.0 && apart.weights[0].is_finite());
        // A score that falls with defects has no say.
        let turned = Logistic::fit(&wide(&defective), &wide(&normal), 1, 0.0);
        assert!(turned.weights[0] == 0.0, "{turned:?}");
    }
}

#[test]
fn members_are_combined_by_what_is_known_of_them() {
    let (normal, defective) = overlapping(7);
    let good = Sample { normal, defective };
    let mut rng = random::stream(9, "guesses", 0);
    let mut guess = |n: usize| (0..n).map(|_| random::normal(&mut rng)).collect::<Vec<f32>>();
    let blind = Sample { normal: guess(40), defective: guess(25) };
    // By pairs.
    let skill = |s: &Sample| {
        let wins = |d: &f32| {
            s.normal.iter().map(|n| f64::from(u8::from(d > n)) + 0.5 * f64::from(u8::from(d == n))).sum::<f64>()
        };
        s.defective.iter().map(wins).sum::<f64>() / (s.normal.len() * s.defective.len()) as f64
    };
    let (a, b) = (skill(&good).powi(4), skill(&blind).powi(4));
    let weights = by_skill(&[&good, &blind]);
    assert!((weights[0] - a / (a + b)).abs() < 1e-9 && (weights[1] - b / (a + b)).abs() < 1e-9, "{weights:?}");
    let scales = [Scale::of(Rule::Logistic, &good), Scale::of(Rule::Logistic, &blind)];
    let stack = Combination::stacked(&[&scales[0], &scales[1]], &[&good, &blind]);
    assert!(stack.is_whole(2) && !stack.is_whole(3));
    // The member that knows moves the score, the other hardly does.
    let (low, high) = (stack.of(&[0.2, 0.5]), stack.of(&[0.8, 0.5]));
    assert!(high - low > 4.0 * (stack.of(&[0.5, 0.8]) - stack.of(&[0.5, 0.2])).abs(), "{low} {high}");
    let soft = Combination::new(Combine::Softmax, &[1.0, 1.0]).of(&[0.25, 0.75]);
    let (x, y) = (1.0f32.exp(), 3.0f32.exp());
    assert!((soft - (0.25 * x + 0.75 * y) / (x + y)).abs() < 1e-6, "{soft}");
    let mean = Combination::new(Combine::Weighted, &[3.0, 1.0]).of(&[0.25, 0.75]);
    assert!((mean - 0.375).abs() < 1e-6);
}
