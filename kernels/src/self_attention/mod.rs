//! Self-attention over the positions of a map (Zhang et al. 2018, SAGAN, equations 1 and 2; I3AD, section
//! 2.2), without the positions x positions matrix in memory.
//!
//! With keys f_i, queries g_j and values h_i, all linear maps of the same features:
//! `a_ij = exp(f_i . g_j) / sum over i of exp(f_i . g_j)` and `o_j = sum over i of a_ij h_i`. Maps are
//! `[images][positions][channels]`. Forward keeps `l_j = log sum over i of exp(f_i . g_j)`, from which
//! backward makes every a_ij again: with `d_j = grad_j . o_j` and `s_ij = a_ij (grad_j . h_i - d_j)`,
//!
//! `dg_j = sum over i of s_ij f_i`, `df_i = sum over j of s_ij g_j`, `dh_i = sum over j of a_ij grad_j`.
//!
//! Operations for p positions, k channels of keys and c of values: `2 p^2 (k + c)` forward, `2 p^2 (5 k + 3 c)`
//! backward. Bytes: the operands once for each tile of rows. At 64 x 64 positions the matrix itself would be
//! 67 MB for each image, written and read several times.

mod gpu;
mod host;

use cubecl::prelude::*;

use crate::device::{View, ViewMut, place};
use crate::error::{Result, check_len};

/// Sizes of an attention.
#[derive(CubeType, CubeLaunch, Clone, Copy, Debug)]
pub struct AttentionShape {
    /// Images; each attends to itself only.
    pub images: usize,
    /// Positions of an image.
    pub positions: usize,
    /// Channels of keys and queries.
    pub keys: usize,
    /// Channels of values.
    pub values: usize,
}

impl AttentionShape {
    fn check(&self, op: &'static str, keys: &[usize], values: &[usize], positions: &[usize]) -> Result<()> {
        let all = self.images * self.positions;
        let each = |lens: &[usize], channels: usize, what| {
            lens.iter().try_for_each(|len| check_len(op, what, *len, all * channels))
        };
        each(keys, self.keys, "keys, queries or their gradients")?;
        each(values, self.values, "values, output or their gradients")?;
        each(positions, 1, "log sums")
    }
}

/// Keys, queries and values.
#[derive(Clone, Copy)]
pub struct Projections<'a> {
    /// f, `[images][positions][keys]`.
    pub keys: View<'a>,
    /// g, likewise.
    pub queries: View<'a>,
    /// h, `[images][positions][values]`.
    pub values: View<'a>,
}

/// Writes `o` (`[images][positions][values]`) and the log sums `l` (`[images][positions]`).
///
/// # Errors
/// When lengths or devices do not fit.
pub fn self_attention<'a>(
    p: Projections<'a>,
    shape: AttentionShape,
    output: impl Into<ViewMut<'a>>,
    log_sums: impl Into<ViewMut<'a>>,
) -> Result<()> {
    const OP: &str = "self_attention";
    let (output, log_sums) = (output.into(), log_sums.into());
    shape.check(OP, &[p.keys.len(), p.queries.len()], &[p.values.len(), output.len()], &[log_sums.len()])?;
    match place(OP, &[&p.keys, &p.queries, &p.values, &output, &log_sums])? {
        None => {
            let operands = (p.keys.host(), p.queries.host(), p.values.host());
            host::forward(operands, shape, output.host(), log_sums.host());
        }
        Some(gpu) => {
            let operands = (p.keys.device(), p.queries.device(), p.values.device());
            gpu::forward(&gpu, operands, shape, output.device(), log_sums.device());
        }
    }
    Ok(())
}

/// What forward has made, and the gradient of its output.
#[derive(Clone, Copy)]
pub struct Attended<'a> {
    /// o.
    pub output: View<'a>,
    /// l.
    pub log_sums: View<'a>,
    /// Gradient of o.
    pub grad: View<'a>,
}

/// Writes the gradients of keys, queries and values.
///
/// # Errors
/// When lengths or devices do not fit.
pub fn self_attention_backward<'a>(
    p: Projections<'a>,
    shape: AttentionShape,
    done: Attended<'a>,
    d_keys: impl Into<ViewMut<'a>>,
    d_queries: impl Into<ViewMut<'a>>,
    d_values: impl Into<ViewMut<'a>>,
) -> Result<()> {
    const OP: &str = "self_attention_backward";
    let (d_keys, d_queries, d_values) = (d_keys.into(), d_queries.into(), d_values.into());
    shape.check(
        OP,
        &[p.keys.len(), p.queries.len(), d_keys.len(), d_queries.len()],
        &[p.values.len(), done.output.len(), done.grad.len(), d_values.len()],
        &[done.log_sums.len()],
    )?;
    let (Projections { keys, queries, values }, Attended { output, log_sums, grad }) = (p, done);
    let gradients = place(OP, &[&d_keys, &d_queries, &d_values, &output, &log_sums, &grad])?;
    place(OP, &[&keys, &queries, &values, &grad])?;
    match gradients {
        None => {
            let operands = (keys.host(), queries.host(), values.host());
            let done = (output.host(), log_sums.host(), grad.host());
            host::backward(operands, shape, done, (d_keys.host(), d_queries.host(), d_values.host()));
        }
        Some(gpu) => {
            let operands = (keys.device(), queries.device(), values.device());
            let done = (output.device(), log_sums.device(), grad.device());
            gpu::backward(&gpu, operands, shape, done, (d_keys.device(), d_queries.device(), d_values.device()))?;
        }
    }
    Ok(())
}
