//! Adam and AdamW, one fused pass over parameter, gradient and both moments.
//!
//! m = b1 m + (1 - b1) g; v = b2 v + (1 - b2) g^2; p -= lr * mh / (sqrt(vh) + eps) with the bias
//! corrections mh = m / (1 - b1^t), vh = v / (1 - b2^t) (Kingma and Ba 2014, algorithm 1).
//! Adam adds `decay * p` to the gradient; AdamW scales p by `1 - lr * decay` first.
//! Bytes: 16 read, 12 written per parameter.

use std::io::Write;

use cubecl::prelude::*;
use hotad_kernels_macros::outlined;
use rayon::prelude::*;

use crate::device::{View, ViewMut, launch, place, units};
use crate::error::{Result, check_len};
use crate::simd::{Wide, by_registers, formulas, lanes_fn};

/// Settings of the optimiser.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamOptions {
    /// Learning rate.
    pub lr: f32,
    /// Decay of the first moment.
    pub beta1: f32,
    /// Decay of the second moment.
    pub beta2: f32,
    /// Added to the denominator.
    pub eps: f32,
    /// Weight decay.
    pub weight_decay: f32,
    /// AdamW: decay the parameter itself instead of adding to the gradient.
    pub decoupled: bool,
}

impl Default for AdamOptions {
    fn default() -> Self {
        Self { lr: 1e-3, beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.0, decoupled: false }
    }
}

/// The figures of one step, the same for every parameter.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
pub struct AdamStep {
    /// lr / (1 - b1^t).
    pub rate: f32,
    /// 1 / sqrt(1 - b2^t).
    pub correction: f32,
    /// b1.
    pub beta1: f32,
    /// 1 - b1, taken in f64.
    pub one_minus_beta1: f32,
    /// b2.
    pub beta2: f32,
    /// 1 - b2, taken in f64.
    pub one_minus_beta2: f32,
    /// Added to the denominator.
    pub eps: f32,
}

impl AdamStep {
    /// Figures of step `t`, counted from 1.
    pub fn new(o: &AdamOptions, t: u32) -> Self {
        let (b1, b2) = (widen(o.beta1), widen(o.beta2));
        Self {
            rate: (widen(o.lr) / (1.0 - b1.powf(f64::from(t)))) as f32,
            correction: (1.0 - b2.powf(f64::from(t))).sqrt().recip() as f32,
            beta1: o.beta1,
            one_minus_beta1: (1.0 - b1) as f32,
            beta2: o.beta2,
            one_minus_beta2: (1.0 - b2) as f32,
            eps: o.eps,
        }
    }
}

impl AdamStep {
    /// As a kernel argument.
    pub(crate) fn arg<R: Runtime>(&self) -> AdamStepLaunch<R> {
        AdamStepLaunch::new(
            self.rate,
            self.correction,
            self.beta1,
            self.one_minus_beta1,
            self.beta2,
            self.one_minus_beta2,
            self.eps,
        )
    }
}

/// The decimal that was meant: 0.999 rather than the f32 nearest to it.
fn widen(x: f32) -> f64 {
    let mut text = [0; 32];
    let mut rest = &mut text[..];
    let printed = write!(rest, "{x:e}").is_ok();
    let left = rest.len();
    let digits = std::str::from_utf8(&text[..text.len() - left]).ok().filter(|_| printed);
    digits.and_then(|digits| digits.parse().ok()).expect("the shortest digits of an f32 are few, and a number")
}

formulas! {
    /// Parameter and moments of one element.
    pub struct AdamState {
        /// Parameter.
        p,
        /// First moment.
        m,
        /// Second moment.
        v,
    }

    /// One element after gradient `g`.
    pub fn adam_update(s: AdamState, g: f32; step: AdamStep) -> AdamState {
        let m = step.beta1 * s.m + step.one_minus_beta1 * g;
        let v = step.beta2 * s.v + step.one_minus_beta2 * g * g;
        let p = s.p - step.rate * m / (v.sqrt() * step.correction + step.eps);
        AdamState { p, m, v }
    }
}

/// One step over a whole parameter; `t` counts from 1.
///
/// # Errors
/// When the buffers differ in length or device.
#[outlined]
pub fn adam<'a>(
    p: impl Into<ViewMut<'a>>,
    g: impl Into<View<'a>>,
    m: impl Into<ViewMut<'a>>,
    v: impl Into<ViewMut<'a>>,
    opts: &AdamOptions,
    t: u32,
) -> Result<()> {
    const OP: &str = "adam";
    const CHUNK: usize = 1 << 14;
    let n = p.len();
    check_len(OP, "gradient", g.len(), n)?;
    check_len(OP, "first moment", m.len(), n)?;
    check_len(OP, "second moment", v.len(), n)?;
    let step = AdamStep::new(opts, t);
    let decay = opts.decay();
    match place(OP, &[&p, &g, &m, &v])? {
        None => p
            .host()
            .par_chunks_mut(CHUNK)
            .zip(g.host().par_chunks(CHUNK))
            .zip(m.host().par_chunks_mut(CHUNK).zip(v.host().par_chunks_mut(CHUNK)))
            .for_each(|((p, g), (m, v))| adam_part(p, g, m, v, decay, step)),
        Some(gpu) => launch!(
            gpu,
            adam_kernel,
            units(n),
            p.device().arg(),
            g.device().arg(),
            m.device().arg(),
            v.device().arg(),
            n,
            DecayLaunch::new(decay.shrink, decay.coupled),
            step.arg(),
        ),
    }
    Ok(())
}

/// How weights decay in one step.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
struct Decay {
    /// What the parameter is multiplied by first (AdamW).
    shrink: f32,
    /// What share of it joins the gradient (Adam).
    coupled: f32,
}

impl AdamOptions {
    fn decay(&self) -> Decay {
        if self.decoupled {
            Decay { shrink: (1.0 - widen(self.lr) * widen(self.weight_decay)) as f32, coupled: 0.0 }
        } else {
            Decay { shrink: 1.0, coupled: self.weight_decay }
        }
    }
}

#[cube(launch_unchecked)]
fn adam_kernel(
    p: &mut Array<f32>,
    g: &Array<f32>,
    m: &mut Array<f32>,
    v: &mut Array<f32>,
    n: usize,
    decay: Decay,
    step: AdamStep,
) {
    let at = ABSOLUTE_POS;
    if at < n {
        let own = p[at];
        let state = AdamState { p: own * decay.shrink, m: m[at], v: v[at] };
        let next = adam_update(state, g[at] + decay.coupled * own, step);
        p[at] = next.p;
        m[at] = next.m;
        v[at] = next.v;
    }
}

lanes_fn! {
    fn adam_part<L>(p: &mut [f32], g: &[f32], m: &mut [f32], v: &mut [f32], decay: Decay, step: AdamStep) {
        let (Decay { shrink, coupled }, n) = (decay, p.len());
        let (g, m, v) = (&g[..n], &mut m[..n], &mut v[..n]);
        // SAFETY: `lanes_fn` runs this only on CPUs with the set of `L`.
        let zero = unsafe { L::splat(0.0) };
        by_registers!(L, n, |part| {
            let (own, g) = (Wide(zero.read(&p[part.clone()])), Wide(zero.read(&g[part.clone()])));
            let (first, second) = (zero.read(&m[part.clone()]), zero.read(&v[part.clone()]));
            let state = wide::AdamState { p: own * shrink, m: Wide(first), v: Wide(second) };
            let next = wide::adam_update(state, g + coupled * own, step);
            next.p.0.write(&mut p[part.clone()]);
            next.m.0.write(&mut m[part.clone()]);
            next.v.0.write(&mut v[part]);
        });
    }
}
