//! A bank in host memory, prepared for the search that suits its vectors.

use std::ops::RangeInclusive;

use super::panels::{Panels, mean};
use super::reduced::Reduced;
use super::rows::Rows;
use super::search::{self, QUERIES};
use crate::bank_data::BankData;
use crate::basis::{Basis, SAMPLE};
use crate::error::Result;

/// Vectors, and elements of one, for which looking for directions pays; for longer ones it takes seconds.
const LEAST_VECTORS: usize = 2048;
const ELEMENTS: RangeInclusive<usize> = 64..=1536;

/// Vectors in host memory.
#[derive(Clone, Debug)]
pub(super) enum HostBank {
    /// Searched in all elements.
    Whole(Panels),
    /// Searched in a few directions first.
    Reduced(Box<Reduced>),
}

impl HostBank {
    /// Prepares vectors of `d` elements.
    ///
    /// # Errors
    /// As for [`Basis::of`].
    pub fn new(data: BankData, d: usize) -> Result<Self> {
        let rows = Rows::new(data, d);
        let pays = rows.len() >= LEAST_VECTORS && ELEMENTS.contains(&d);
        let basis = || {
            let mut mean = mean(rows.data(), d);
            mean.truncate(d);
            Basis::of(&rows.sample(SAMPLE), mean)
        };
        let prepared = match pays.then(basis).transpose()?.flatten() {
            Some(basis) => Reduced::new(rows, basis)?,
            None => Err(rows),
        };
        Ok(match prepared {
            Ok(reduced) => Self::Reduced(Box::new(reduced)),
            Err(rows) => Self::Whole(Panels::new(rows.data(), d)),
        })
    }

    /// All vectors, row by row.
    pub fn vectors(&self) -> BankData {
        match self {
            Self::Whole(panels) => panels.rows(),
            Self::Reduced(bank) => bank.rows().data().clone(),
        }
    }

    /// Writes vector `i`, widened.
    pub fn read(&self, i: usize, to: &mut [f32]) {
        match self {
            Self::Whole(panels) => panels.read(i, to),
            Self::Reduced(bank) => bank.rows().widen(i, to),
        }
    }

    /// The `k` nearest vectors of each query of `d` elements, the lower index first among equals; `index` and `distance` are
    /// `[query][k]`.
    ///
    /// # Errors
    /// As for [`Basis::of`].
    pub fn nearest(
        &self,
        queries: &[f32],
        (d, k): (usize, usize),
        index: &mut [u32],
        distance: &mut [f32],
    ) -> Result<()> {
        let results = index.chunks_mut(QUERIES * k).zip(distance.chunks_mut(QUERIES * k));
        for (values, (index, distance)) in queries.chunks(QUERIES * d).zip(results) {
            let found = match self {
                Self::Whole(panels) => search::nearest(panels, values, k),
                Self::Reduced(bank) => bank.nearest(values, k)?,
            };
            assert_eq!(found.len(), index.len(), "k for each query");
            for (found, (index, distance)) in found.iter().zip(index.iter_mut().zip(distance)) {
                (*index, *distance) = (found.vector, found.square.sqrt() as f32);
            }
        }
        Ok(())
    }
}
