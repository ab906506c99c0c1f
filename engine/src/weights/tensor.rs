//! Tensors over storages: element types, strides, and the values as f32 in row order.

use half::{bf16, f16};

/// Element types of storages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dtype {
    F64,
    F32,
    F16,
    Bf16,
    /// Integers, booleans and complex numbers of so many bytes, which no weight has.
    Other(usize),
}

impl Dtype {
    /// Bytes of an element.
    pub fn size(self) -> usize {
        match self {
            Self::F64 => 8,
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
            Self::Other(size) => size,
        }
    }

    /// Whether its tensors are weights.
    pub fn is_float(self) -> bool {
        !matches!(self, Self::Other(_))
    }

    /// Values of little-endian bytes, f64 rounded to f32; `None` for [`Dtype::Other`].
    pub fn values(self, bytes: &[u8]) -> Option<Vec<f32>> {
        Some(match self {
            Self::F64 => bytes.as_chunks().0.iter().map(|b| f64::from_le_bytes(*b) as f32).collect(),
            Self::F32 => bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
            Self::F16 => bytes.as_chunks().0.iter().map(|b| f16::from_le_bytes(*b).to_f32()).collect(),
            Self::Bf16 => bytes.as_chunks().0.iter().map(|b| bf16::from_le_bytes(*b).to_f32()).collect(),
            Self::Other(_) => return None,
        })
    }
}

/// A run of elements in a file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Storage<'a> {
    /// Its name in the file.
    pub key: &'a str,
    pub dtype: Dtype,
    /// Elements of the whole run.
    pub len: usize,
    /// First element of the part that is seen, and how many are.
    pub part: (usize, usize),
}

/// Where a tensor's elements lie in a storage.
#[derive(Debug, Clone)]
pub(super) struct TensorView {
    /// Index into the pickle's storages.
    pub storage: usize,
    pub offset: usize,
    pub shape: Vec<usize>,
    /// Steps along each axis, in elements; 0 along axes of one.
    pub strides: Vec<usize>,
}

impl TensorView {
    /// Number of elements, when it can be counted.
    pub fn len(&self) -> Option<usize> {
        self.shape.iter().try_fold(1_usize, |n, &extent| n.checked_mul(extent))
    }

    /// Whether every element lies within a storage of `len` elements.
    pub fn fits(&self, len: usize) -> bool {
        if self.shape.contains(&0) {
            return true;
        }
        let last = self
            .shape
            .iter()
            .zip(&self.strides)
            .try_fold(self.offset, |at, (&extent, &stride)| at.checked_add((extent - 1).checked_mul(stride)?));
        self.len().is_some() && last.is_some_and(|last| last < len)
    }

    /// The elements in row order, of a storage that they fit.
    pub fn gather(&self, storage: &[f32]) -> Vec<f32> {
        let count = self.len().unwrap_or(0);
        if count > 0 && self.is_contiguous() {
            return storage[self.offset..self.offset + count].to_vec();
        }
        let mut values = Vec::with_capacity(count);
        let mut index = vec![0; self.shape.len()];
        let mut at = self.offset;
        for _ in 0..count {
            values.push(storage[at]);
            for axis in (0..index.len()).rev() {
                index[axis] += 1;
                at += self.strides[axis];
                if index[axis] < self.shape[axis] {
                    break;
                }
                at -= index[axis] * self.strides[axis];
                index[axis] = 0;
            }
        }
        values
    }

    fn is_contiguous(&self) -> bool {
        let mut step = 1;
        self.shape.iter().zip(&self.strides).rev().all(|(&extent, &stride)| {
            let fits = extent == 1 || stride == step;
            step *= extent;
            fits
        })
    }
}
