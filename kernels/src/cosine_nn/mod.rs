//! Location-wise cosine nearest neighbour over the patch memory bank (PAEDID, section 2.1.3).
//!
//! At every location, the bank vector of the same location with the largest cosine to the query; a
//! vector of norm zero has cosine 0 with everything, the lowest index wins among equals. The bank
//! is laid out location by location, so that a search reads memory from front to back once; no
//! similarity is stored. Bytes: 2 (f16) or 4 per bank element, read once for all queries of a
//! batch; operations: 2 per element and query.

mod gpu;
mod host;
mod kernels;

use std::sync::OnceLock;

use half::f16;

use crate::device::{View, ViewMut, place};
use crate::error::{Result, check_len, shape_error};
use gpu::GpuBank;
use host::{Element, inverse_norms};

const OP: &str = "cosine_nn";

/// Bank vectors, `[location][entry][dim]`.
#[derive(Clone, Debug, PartialEq)]
pub enum BankData {
    /// Half precision, accumulated in f32.
    F16(Vec<f16>),
    /// Single precision.
    F32(Vec<f32>),
}

/// A patch memory bank: `entries` vectors of `dim` elements at each of `locations`.
#[derive(Clone, Debug)]
pub struct LocationBank {
    locations: usize,
    entries: usize,
    dim: usize,
    data: BankData,
    /// 1 / norm of each vector, 0 for a zero vector; `[location][entry]`.
    inverse_norms: Vec<f32>,
    /// The copy on the GPU that has asked for it first.
    resident: OnceLock<GpuBank>,
}

impl LocationBank {
    /// Takes vectors laid out `[location][entry][dim]`.
    ///
    /// # Errors
    /// When the data is empty or not of that length.
    pub fn new(locations: usize, entries: usize, dim: usize, data: BankData) -> Result<Self> {
        if locations * entries * dim == 0 {
            return shape_error("memory bank", format!("{locations} locations x {entries} entries x {dim}: empty"));
        }
        let want = locations * entries * dim;
        let inverse_norms = match &data {
            BankData::F16(v) => check_len("memory bank", "data", v.len(), want).map(|()| inverse_norms(v, dim))?,
            BankData::F32(v) => check_len("memory bank", "data", v.len(), want).map(|()| inverse_norms(v, dim))?,
        };
        Ok(Self { locations, entries, dim, data, inverse_norms, resident: OnceLock::new() })
    }

    /// Locations, entries at each, elements of a vector.
    pub fn shape(&self) -> (usize, usize, usize) {
        (self.locations, self.entries, self.dim)
    }

    /// The vectors, `[location][entry][dim]`.
    pub fn data(&self) -> &BankData {
        &self.data
    }

    /// Writes to `to` (`[image][location][dim]`) the vectors that `index` (`[image][location]`) names,
    /// widened. An index beyond the last entry counts as the last.
    ///
    /// # Errors
    /// When lengths or devices do not fit.
    pub fn gather<'a>(&self, index: impl Into<View<'a, u32>>, to: impl Into<ViewMut<'a>>) -> Result<()> {
        let (index, to) = (index.into(), to.into());
        let (dim, entries) = (self.dim, self.entries);
        check_len(OP, "vectors", to.len(), index.len() * dim)?;
        match place(OP, &[&index, &to])? {
            None => {
                for (at, (to, entry)) in to.host().chunks_exact_mut(dim).zip(index.host()).enumerate() {
                    let entry = (*entry as usize).min(entries - 1);
                    let from = (at % self.locations * entries + entry) * dim;
                    match &self.data {
                        BankData::F16(v) => f16::widen_into(&v[from..from + dim], to),
                        BankData::F32(v) => f32::widen_into(&v[from..from + dim], to),
                    }
                }
            }
            Some(gpu) => self.gather_on_gpu(&gpu, index.device(), to.device())?,
        }
        Ok(())
    }

    /// Best entry for each query vector; `queries` is `[image][location][dim]`. Writes the entry to
    /// `index` and its cosine to `cosine`, both `[image][location]`.
    ///
    /// # Errors
    /// When `queries` is not a whole number of images, or lengths or devices do not fit.
    pub fn nearest<'a>(
        &self,
        queries: impl Into<View<'a>>,
        index: impl Into<ViewMut<'a, u32>>,
        cosine: impl Into<ViewMut<'a>>,
    ) -> Result<()> {
        let (queries, index, cosine) = (queries.into(), index.into(), cosine.into());
        let image = self.locations * self.dim;
        if !queries.len().is_multiple_of(image) {
            let detail = format!(
                "{} query elements are no multiple of {} locations x {}",
                queries.len(),
                self.locations,
                self.dim
            );
            return shape_error(OP, detail);
        }
        let images = queries.len() / image;
        check_len(OP, "index", index.len(), images * self.locations)?;
        check_len(OP, "cosine", cosine.len(), images * self.locations)?;
        match place(OP, &[&queries, &index, &cosine])? {
            None => self.on_host(queries.host(), images, index.host(), cosine.host()),
            Some(gpu) => self.on_gpu(&gpu, queries.device(), images, index.device(), cosine.device())?,
        }
        Ok(())
    }
}
