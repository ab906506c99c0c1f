//! Euclidean k-nearest neighbours over a flat memory bank (PatchCore, Roth et al. 2022, section 3.3), prepared
//! once and searched exactly, without a distance matrix.
//!
//! On the CPU a first pass in 16-bit integers leaves a few candidates for each query, by a bound that holds for
//! any data; their distances are measured in f64 (search.rs). Where most of the variance is in few directions, bounds in f32
//! come from these alone (reduced.rs). A bank in half precision stays so in memory. On a
//! GPU a bank in half precision is widened and distances are summed in f32, on NVIDIA's of those candidates that a
//! first pass on tensor cores leaves (cuda/).

mod balls;
mod bounds;
#[cfg(feature = "cuda")]
mod cuda;
mod gpu;
mod host;
mod kernels;
mod panels;
mod projected;
mod reduced;
mod rows;
mod search;
mod tile;
mod tree;

use std::borrow::Cow;

use half::f16;

use crate::bank_data::BankData;
use crate::device::{Device, HostBuffer, View, ViewMut, mixed, place};
use crate::error::{Result, check_len, shape_error};
use crate::gather::gather;
use gpu::GpuBank;
use host::HostBank;

const OP: &str = "flat memory bank";

/// A memory bank of `len` vectors of `dimension` elements.
#[derive(Clone, Debug)]
pub struct FlatBank {
    len: usize,
    dimension: usize,
    vectors: Vectors,
}

#[derive(Clone, Debug)]
enum Vectors {
    Host(HostBank),
    Gpu(Box<GpuBank>),
}

/// Numbers in f32.
fn widened(data: &BankData) -> Cow<'_, [f32]> {
    match data {
        BankData::F16(v) => v.iter().map(|v| v.to_f32()).collect(),
        BankData::F32(v) => v.into(),
    }
}

/// Halves of numbers that were widened from halves.
fn narrowed(values: Vec<f32>) -> Vec<f16> {
    values.into_iter().map(f16::from_f32).collect()
}

impl FlatBank {
    /// Prepares vectors laid out `[len][dimension]` on a device. On an NVIDIA GPU of capability 8.0 or newer they are there
    /// twice, in f32 and rounded to halves, if memory allows.
    ///
    /// # Errors
    /// When there are none, they are no whole number of vectors, or the device is out of memory.
    pub fn new(data: BankData, dimension: usize, device: &Device) -> Result<Self> {
        let elements = data.elements();
        if elements == 0 || dimension == 0 || !elements.is_multiple_of(dimension) {
            return shape_error(OP, format!("{elements} elements are no vectors of dimension {dimension}"));
        }
        let vectors = match device {
            Device::Cpu(_) => Vectors::Host(HostBank::new(data, dimension)?),
            Device::Gpu(gpu) => Vectors::Gpu(Box::new(GpuBank::new(gpu, &data, dimension)?)),
        };
        Ok(Self { len: elements / dimension, dimension, vectors })
    }

    /// Vectors, at least 1.
    #[allow(clippy::len_without_is_empty)] // never empty
    pub fn len(&self) -> usize {
        self.len
    }

    /// Elements of a vector.
    pub fn dimension(&self) -> usize {
        self.dimension
    }

    /// All vectors, `[len][dimension]`, in the precision they were given in.
    ///
    /// # Errors
    /// When they live on a device that is lost.
    pub fn vectors(&self) -> Result<BankData> {
        match &self.vectors {
            Vectors::Host(bank) => Ok(bank.vectors()),
            Vectors::Gpu(bank) => bank.vectors(),
        }
    }

    /// The vectors with these numbers in their order, widened, on the host.
    ///
    /// # Errors
    /// When a number is beyond the last vector, or they live on a device that is lost.
    pub fn select(&self, index: &[usize]) -> Result<HostBuffer<f32>> {
        if let Some(beyond) = index.iter().find(|i| **i >= self.len) {
            return shape_error(OP, format!("vector {beyond} of {}", self.len));
        }
        match &self.vectors {
            Vectors::Host(bank) => {
                let mut selected = HostBuffer::try_uninit(index.len() * self.dimension)?;
                index.iter().zip(selected.chunks_exact_mut(self.dimension)).for_each(|(i, to)| bank.read(*i, to));
                Ok(selected)
            }
            Vectors::Gpu(bank) => gather(&bank.values, self.dimension, index)?.into_host(),
        }
    }

    /// The `k` nearest vectors of each query, ascending by distance, the lower index first among equals;
    /// `query` is `[queries][dimension]`, `index` and `distance` (Euclidean) are `[queries][k]`.
    ///
    /// # Errors
    /// When lengths or devices do not fit, or `k` is 0 or larger than the bank.
    pub fn nearest<'a>(
        &self,
        query: impl Into<View<'a>>,
        k: usize,
        index: impl Into<ViewMut<'a, u32>>,
        distance: impl Into<ViewMut<'a>>,
    ) -> Result<()> {
        let (query, index, distance) = (query.into(), index.into(), distance.into());
        let d = self.dimension;
        if k == 0 || k > self.len {
            return shape_error(OP, format!("{k} neighbours from {} vectors", self.len));
        }
        check_len(OP, "query", query.len() % d, 0)?;
        check_len(OP, "index", index.len(), query.len() / d * k)?;
        check_len(OP, "distance", distance.len(), query.len() / d * k)?;
        let place = place(OP, &[&query, &index, &distance])?;
        match (&self.vectors, place) {
            (Vectors::Host(bank), None) => bank.nearest(query.host(), (d, k), index.host(), distance.host())?,
            (Vectors::Gpu(bank), Some(gpu)) if bank.values.gpu().is(&gpu) => {
                bank.nearest(&gpu, query.device(), (d, k), index.device(), distance.device())?;
            }
            _ => return mixed(OP),
        }
        Ok(())
    }
}
