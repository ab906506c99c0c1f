//! Which taps reach an output, and runs of outputs along a row that the same taps reach.
//!
//! Away from the borders all taps do; finding the exceptions once leaves inner loops without checks.

use smallvec::SmallVec;

use super::super::Geometry;

/// A tap and the source position that it reads.
pub(super) type Tap = (usize, usize);

/// Taps of one axis; those of kernels up to 7 are on the stack.
pub(super) type AxisTaps = SmallVec<[Tap; 7]>;

/// Taps of both axes; those of kernels up to 7x7 are on the stack.
pub(super) type Taps = SmallVec<[Tap; 49]>;

/// Runs of a row; those of a forward pass over a map wider than its kernel, up to 7, are on the stack.
type Runs = SmallVec<[Run; 8]>;

/// How outputs along one axis follow from sources.
#[derive(Clone, Copy)]
pub(super) struct Axis {
    kernel: usize,
    stride: usize,
    dilation: usize,
    /// Zeros before the first position of the convolution's input.
    before: usize,
    /// Positions of the convolution's input and output.
    input: usize,
    output: usize,
    /// Whether outputs are those of the convolution, or positions of its input that gather gradients.
    forward: bool,
}

/// Outputs `first + i * step` that taps reach, reading their source position `+ i * source_step`.
pub(super) struct Run {
    pub first: usize,
    pub count: usize,
    /// Each with the source position it reads for the first output.
    pub taps: AxisTaps,
}

impl Axis {
    /// Rows (`axis` 0) or columns (1) of a convolution, or of its data gradient.
    pub fn new(g: &Geometry, axis: usize, forward: bool) -> Self {
        Self {
            kernel: g.w[1 + axis],
            stride: g.opts.stride,
            dilation: g.opts.dilation,
            before: g.before[axis],
            input: g.x[1 + axis],
            output: g.y[1 + axis],
            forward,
        }
    }

    /// From one output of a run to the next.
    pub fn step(&self) -> usize {
        if self.forward { 1 } else { self.stride }
    }

    /// From the source of one output of a run to that of the next.
    pub fn source_step(&self) -> usize {
        if self.forward { self.stride } else { 1 }
    }

    /// The taps that reach output `o`.
    pub fn taps(&self, o: usize) -> AxisTaps {
        let source = |t: usize| {
            if self.forward {
                return (o * self.stride + t * self.dilation).checked_sub(self.before).filter(|p| *p < self.input);
            }
            let reached = (o + self.before).checked_sub(t * self.dilation)?;
            Some(reached / self.stride).filter(|p| reached % self.stride == 0 && *p < self.output)
        };
        (0..self.kernel).filter_map(|t| source(t).map(|p| (t, p))).collect()
    }

    /// All outputs, in runs.
    pub fn runs(&self) -> Runs {
        let outputs = if self.forward { self.output } else { self.input };
        let mut runs = Runs::new();
        for phase in 0..self.step() {
            for o in (phase..outputs).step_by(self.step()) {
                let taps = self.taps(o);
                match runs.last_mut().filter(|run| self.continues(run, o, &taps)) {
                    Some(run) => run.count += 1,
                    None => runs.push(Run { first: o, count: 1, taps }),
                }
            }
        }
        runs
    }

    fn continues(&self, run: &Run, o: usize, taps: &[Tap]) -> bool {
        let shift = run.count * self.source_step();
        let same = |((a, from), (b, to)): (&Tap, &Tap)| a == b && from + shift == *to;
        run.first + run.count * self.step() == o && run.taps.len() == taps.len() && run.taps.iter().zip(taps).all(same)
    }
}
