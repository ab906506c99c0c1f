//! Feature fusion: maps of several sizes are resized to one (bilinear), joined on channels and projected, as PCA
//! does (feature-level ensemble, "global transformation block").
//!
//! `y = P (join_i resize(f_i) - m)`. Resizing and projecting are both linear, and bilinear weights sum to 1, so
//! `y = sum_i resize(P_i f_i - [i = 0] P m)`: each map is projected at its own size, and the joined map never exists.
//! Operations: `2 k c_i` per pixel of map i at its own size, instead of `2 k sum c_i` per pixel of the largest; bytes: each
//! map once, and `k` channels of it written and read again where it is enlarged.

use crate::activation::Activation;
use crate::conv::{ConvOptions, Extra, PreparedConv};
use crate::device::{Buffer, Device, View};
use crate::error::{Result, check_len, shape_error};
use crate::resize::{Filter, resize, resize_add};
use crate::shape::Nhwc;

const OP: &str = "feature fusion";

/// A linear map from joined channels to `k`.
pub struct Projection {
    parts: Vec<PreparedConv>,
    outputs: usize,
    device: Device,
}

impl Projection {
    /// `P (x - m)`: from `components` `[k][c]` and `mean` `[c]`, c the sum of `channels`, which are those of the maps in
    /// order.
    ///
    /// # Errors
    /// When lengths do not fit or the device is out of memory.
    pub fn new(components: &[f32], mean: &[f32], channels: &[usize], device: &Device) -> Result<Self> {
        check_len(OP, "mean", mean.len(), channels.iter().sum())?;
        let shift = |row: &[f32]| -row.iter().zip(mean).map(|(p, m)| f64::from(*p) * f64::from(*m)).sum::<f64>() as f32;
        let bias = components.chunks_exact(mean.len().max(1)).map(shift).collect();
        Self::with_bias(components, bias, channels, device)
    }

    /// `W x + b`: from `weights` `[k][c]` and `bias` `[k]`.
    ///
    /// # Errors
    /// When lengths do not fit or the device is out of memory.
    pub fn with_bias(weights: &[f32], mut bias: Vec<f32>, channels: &[usize], device: &Device) -> Result<Self> {
        let (c, outputs) = (channels.iter().sum::<usize>(), bias.len());
        if c == 0 || outputs == 0 {
            return shape_error(OP, format!("{c} channels to {outputs}"));
        }
        check_len(OP, "weights", weights.len(), outputs * c)?;
        let mut parts = Vec::with_capacity(channels.len());
        let mut first = 0;
        for channels in channels {
            let rows = weights.chunks_exact(c).flat_map(|row| &row[first..first + channels]);
            let weight = device.upload(rows.copied().collect::<Vec<f32>>())?;
            let own = device.upload(std::mem::replace(&mut bias, vec![0.0; outputs]))?;
            let shape = [outputs, 1, 1, *channels];
            parts.push(PreparedConv::new(weight, shape, own, ConvOptions::default(), Activation::Identity)?);
            first += channels;
        }
        Ok(Self { parts, outputs, device: device.clone() })
    }

    /// Channels of the result.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// Writes `y` of shape `[n, size.0, size.1, k]` from the maps in order.
    ///
    /// # Errors
    /// When the maps are not as many or of as many channels as the projection wants, or are of several batch sizes, or
    /// lengths or devices do not fit.
    pub fn run(&self, maps: &[(View, Nhwc)], size: (usize, usize), y: &mut Buffer) -> Result<()> {
        check_len(OP, "maps", maps.len(), self.parts.len())?;
        for (at, ((map, shape), part)) in maps.iter().zip(&self.parts).enumerate() {
            let [n, h, w, _] = *shape;
            check_len(OP, "output", y.len(), n * size.0 * size.1 * self.outputs)?;
            if at == 0 && (h, w) == size {
                part.run(*map, *shape, Extra::default(), &mut *y)?;
                continue;
            }
            let own = [n, h, w, self.outputs];
            let mut projected = self.device.alloc(own.iter().product())?;
            part.run(*map, *shape, Extra::default(), &mut projected)?;
            match at {
                0 => resize(&projected, own, size, Filter::Bilinear, &mut *y)?,
                _ => resize_add(&projected, own, size, Filter::Bilinear, &mut *y)?,
            }
        }
        Ok(())
    }
}
