//! Location-wise cosine nearest neighbour over the patch memory bank (PAEDID, section 2.1.3).
//!
//! At every location, the bank vector of the same location, or of one near it, with the largest cosine
//! to the query; a vector of norm zero has cosine 0 with everything, the lowest index wins among equals.
//! The bank is laid out location by location, so that a search reads memory from front to back once; no
//! similarity is stored. Bytes: 2 (f16) or 4 per bank element, read once for all queries of a batch and
//! each location near it; operations: 2 per element, query and location near it.

mod gpu;
mod host;
mod kernels;
mod similar;

use std::sync::OnceLock;

use half::f16;

pub use crate::bank_data::BankData;
use crate::bank_data::BankElement;
use crate::device::{View, ViewMut, place};
use crate::error::{Result, check_len, shape_error};
use gpu::GpuBank;
use host::inverse_norms;

const OP: &str = "cosine_nn";

/// Locations that are compared with a query; they are a grid, row by row.
#[derive(Clone, Copy, Debug)]
pub struct Neighbourhood {
    /// Locations side by side.
    pub columns: usize,
    /// Most rows and most columns from the query's location; 0 is that alone, as many as the grid has is all of it.
    pub reach: usize,
}

impl Neighbourhood {
    /// The location of the query alone.
    pub const OWN: Self = Self { columns: 1, reach: 0 };

    /// Visits the locations near one of a grid, in order.
    fn each(self, location: usize, locations: usize, mut visit: impl FnMut(usize)) {
        let near = |at: usize, count: usize| at.saturating_sub(self.reach)..(at + self.reach + 1).min(count);
        for row in near(location / self.columns, locations / self.columns) {
            near(location % self.columns, self.columns).for_each(|column| visit(row * self.columns + column));
        }
    }
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
        if u32::try_from(locations * entries).is_err() {
            return shape_error(
                "memory bank",
                format!("{locations} locations x {entries} entries: more than 4 G vectors"),
            );
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

    /// How many vectors are zero: similar to nothing.
    pub fn zeros(&self) -> usize {
        self.inverse_norms.iter().filter(|scale| **scale == 0.0).count()
    }

    /// Writes to `to` (`[image][location][dim]`) the vectors that `index` (`[image][location]`) names
    /// by `location * entries + entry`, widened. An index beyond the last vector counts as the last.
    ///
    /// # Errors
    /// When lengths or devices do not fit.
    pub fn gather<'a>(&self, index: impl Into<View<'a, u32>>, to: impl Into<ViewMut<'a>>) -> Result<()> {
        let (index, to) = (index.into(), to.into());
        let dim = self.dim;
        check_len(OP, "vectors", to.len(), index.len() * dim)?;
        match place(OP, &[&index, &to])? {
            None => {
                for (to, vector) in to.host().chunks_exact_mut(dim).zip(index.host()) {
                    let from = (*vector as usize).min(self.inverse_norms.len() - 1) * dim;
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

    /// The nearest of the vectors at each query's own location; see [`LocationBank::nearest_within`].
    ///
    /// # Errors
    /// As there.
    pub fn nearest<'a>(
        &self,
        queries: impl Into<View<'a>>,
        index: impl Into<ViewMut<'a, u32>>,
        cosine: impl Into<ViewMut<'a>>,
    ) -> Result<()> {
        self.nearest_within(queries, (Neighbourhood::OWN, None), index, cosine)
    }

    /// The nearest vector of a neighbourhood for each query vector; `queries` is `[image][location][dim]`. Writes
    /// `location * entries + entry` of the vector to `index` and its cosine to `cosine`, both `[image][location]`. `among`,
    /// `[image][entry]`, names with a number other than 0 the entries that are searched for an image; where there is none, the
    /// cosine is below -1.
    ///
    /// # Errors
    /// When `queries` is not a whole number of images, the locations no whole number of rows, or lengths or devices do not fit.
    pub fn nearest_within<'a>(
        &self,
        queries: impl Into<View<'a>>,
        (near, among): (Neighbourhood, Option<View<'a, u32>>),
        index: impl Into<ViewMut<'a, u32>>,
        cosine: impl Into<ViewMut<'a>>,
    ) -> Result<()> {
        let (queries, index, cosine) = (queries.into(), index.into(), cosine.into());
        let images = self.images(queries)?;
        if near.columns == 0 || !self.locations.is_multiple_of(near.columns) {
            return shape_error(OP, format!("{} locations are no rows of {}", self.locations, near.columns));
        }
        check_len(OP, "index", index.len(), images * self.locations)?;
        check_len(OP, "cosine", cosine.len(), images * self.locations)?;
        if let Some(among) = &among {
            place(OP, &[&queries, among])?;
            check_len(OP, "among", among.len(), images * self.entries)?;
        }
        match place(OP, &[&queries, &index, &cosine])? {
            None => {
                let among = among.map(View::host);
                self.on_host(queries.host(), images, (near, among), index.host(), cosine.host());
            }
            Some(gpu) => {
                let among = among.map(View::device);
                self.on_gpu(&gpu, queries.device(), images, (near, among), (index.device(), cosine.device()))?;
            }
        }
        Ok(())
    }

    /// Writes to `means` (`[image][entry]`) the mean cosine over locations of each query image to each entry; `queries` is
    /// `[image][location][dim]`.
    ///
    /// # Errors
    /// When `queries` is not a whole number of images, or lengths or devices do not fit.
    pub fn mean_cosines<'a>(&self, queries: impl Into<View<'a>>, means: impl Into<ViewMut<'a>>) -> Result<()> {
        let (queries, means) = (queries.into(), means.into());
        check_len(OP, "means", means.len(), self.images(queries)? * self.entries)?;
        match place(OP, &[&queries, &means])? {
            None => self.means_on_host(queries.host(), means.host()),
            Some(gpu) => self.means_on_gpu(&gpu, queries.device(), means.device())?,
        }
        Ok(())
    }

    /// How many images the queries are of.
    fn images(&self, queries: View) -> Result<usize> {
        let (n, image) = (queries.len(), self.locations * self.dim);
        if n.is_multiple_of(image) {
            return Ok(n / image);
        }
        let detail = format!("{n} query elements are no multiple of {} locations x {}", self.locations, self.dim);
        shape_error(OP, detail)
    }
}
