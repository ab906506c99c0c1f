//! Nearest neighbours by exhaustive search, and vectors that are hard to tell apart.

use hotad_engine::random;
use rand::Rng;

pub fn noise(n: usize, index: u64) -> Vec<f32> {
    let mut rng = random::stream(6, "flat bank test", index);
    (0..n).map(|_| rng.random::<f32>() - 0.25).collect()
}

/// Every distance in f64, sorted; the lower index first among equals.
pub fn exhaustive(query: &[f32], bank: &[f32], d: usize, k: usize) -> (Vec<u32>, Vec<f64>) {
    let (mut index, mut distance) = (Vec::new(), Vec::new());
    for q in query.chunks(d) {
        let mut all: Vec<(f64, u32)> = Vec::new();
        for (i, b) in bank.chunks(d).enumerate() {
            let mut sum = 0.0f64;
            for j in 0..d {
                sum += (q[j] as f64 - b[j] as f64) * (q[j] as f64 - b[j] as f64);
            }
            all.push((sum.sqrt(), i as u32));
        }
        all.sort_by(|a, b| a.partial_cmp(b).expect("distances are numbers"));
        index.extend(all[..k].iter().map(|a| a.1));
        distance.extend(all[..k].iter().map(|a| a.0));
    }
    (index, distance)
}

/// `m` vectors on spheres about a point, their distances from it 3e-6 apart, and `q` queries close to it: halves do not tell
/// which of them are nearest.
pub fn spheres(q: usize, m: usize, d: usize) -> (Vec<f32>, Vec<f32>) {
    let centre = noise(d, 24);
    let at = |v: &[f32], radius: f32| -> Vec<f32> {
        let norm = v.iter().map(|v| v * v).sum::<f32>().sqrt();
        v.iter().zip(&centre).map(|(v, c)| c + v / norm * radius).collect()
    };
    let even: Vec<f32> = noise(m * d, 25).into_iter().map(|v| v - 0.25).collect();
    let radius = |i: usize| 1.0 + 3e-6 * (i * 389 % m) as f32;
    let bank = even.chunks(d).enumerate().flat_map(|(i, v)| at(v, radius(i))).collect();
    (noise(q * d, 26).chunks(d).flat_map(|v| at(v, 1e-4)).collect(), bank)
}

/// `n` vectors of `d` elements that depend on each other: most of their variance is in `d / 8` directions.
#[allow(dead_code)] // not every test needs them
pub fn correlated(n: usize, d: usize, index: u64) -> Vec<f32> {
    let factors = d / 8;
    let mixing = noise(factors * d, 30);
    let (along, own) = (noise(n * factors, index), noise(n * d, index + 1));
    let vector = |(along, own): (&[f32], &[f32])| -> Vec<f32> {
        let mut vector: Vec<f32> = own.iter().map(|v| 0.3 * v + 2.0).collect();
        for (i, (factor, row)) in along.iter().zip(mixing.chunks(d)).enumerate() {
            let factor = (factor - 0.25) * 4.0 / (1.0 + i as f32);
            vector.iter_mut().zip(row).for_each(|(v, m)| *v += factor * (m - 0.25));
        }
        vector
    };
    along.chunks(factors).zip(own.chunks(d)).flat_map(vector).collect()
}
