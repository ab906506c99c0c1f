//! The memory bank: a coreset of the patches of normal images, and the image behind each of its vectors.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use half::f16;
use hotad_engine::container::Stored;
use hotad_engine::device::Device;
use hotad_engine::observer::Task;
use hotad_engine::tensor::Tensor;
use hotad_engine::{Error, Result, interrupt, random};
use hotad_kernels::coreset::greedy_coreset;
use hotad_kernels::cosine_nn::BankData;
use hotad_kernels::device::Buffer;
use hotad_kernels::flat_bank::FlatBank;
use hotad_kernels::fusion::Projection;
use hotad_kernels::gather::gather;
use rand::Rng;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::config::Config;
use super::latency::largest_in_time;
use super::nearest::nearest;
use super::reservoir::Reservoir;
use crate::config::BankType;
use crate::detector::entry_names;
use crate::features::Embedding;
use crate::fit::FitContext;

/// Vectors that distances are measured to.
pub struct PatchBank {
    kind: BankType,
    /// In the precision of the file, so that a model scores the same before and after.
    vectors: FlatBank,
    /// The entry behind each vector.
    owners: Vec<u32>,
    entries: Vec<String>,
    /// Largest distance of a patch of the images the bank was made of, as they are, to its nearest vector.
    radius: f32,
    device: Device,
}

#[derive(Serialize, Deserialize)]
struct Saved {
    owners: Vec<u32>,
    entries: Vec<String>,
    radius: f32,
}

/// A random projection that keeps distances on average (Johnson and Lindenstrauss 1984): normal numbers of variance 1 / k.
fn random_projection(d: usize, k: usize, seed: u64, device: &Device) -> Result<Projection> {
    let (mut rng, scale) = (random::stream(seed, "coreset projection", 0), 1.0 / (k as f32).sqrt());
    let components: Vec<f32> = (0..k * d).map(|_| random::normal(&mut rng) * scale).collect();
    Ok(Projection::new(&components, &vec![0.0; d], &[d], device)?)
}

/// The largest distance of the first `n` vectors to a bank.
fn farthest(vectors: &Buffer, n: usize, bank: &FlatBank) -> Result<f32> {
    let (d, mut largest) = (bank.dimension(), 0.0);
    let rows: Vec<usize> = (0..n).collect();
    for part in rows.chunks(AT_ONCE) {
        interrupt::check()?;
        let part = Tensor::from_buffer(gather(vectors, d, part)?, &[part.len(), d])?;
        largest = nearest(&part, bank, 1)?.distance.into_vec()?.into_iter().fold(largest, f32::max);
    }
    Ok(largest)
}

/// Vectors that are looked up between two looks at Ctrl-C.
const AT_ONCE: usize = 4096;

/// Vectors in the precision of a bank.
pub(super) fn in_precision(kind: BankType, values: Vec<f32>) -> BankData {
    match kind {
        BankType::F32 => BankData::F32(values),
        BankType::F16 => BankData::F16(values.into_iter().map(f16::from_f32).collect()),
    }
}

impl PatchBank {
    /// Of the patches of the context's normal images.
    ///
    /// # Errors
    /// When an image cannot be read, when interrupted, or the device is out of memory.
    pub fn build(embedding: &Embedding, config: &Config, context: &FitContext) -> Result<Self> {
        let (device, d) = (embedding.device().clone(), embedding.dimensions());
        let (images, note) = (context.train.len(), config.augmentation.note());
        context.observer.say(&format!("collecting patches of {images} images{note}"));
        let Reservoir { vectors, owners, unchanged } = Reservoir::fill(embedding, config, context)?;
        let (m, (h, w)) = (owners.len(), embedding.grid());
        let count = if config.max_latency_ms > 0.0 {
            largest_in_time(embedding, config, &vectors, context)?
        } else {
            config.kept(m, images * h * w)
        };
        context.observer.say(&format!("choosing a coreset of {count} of {m} patches"));
        let all = device.upload(vectors)?;
        let chosen = Self::coreset(&all, (m, d), count, config, context)?;
        let vectors = in_precision(config.bank, gather(&all, d, &chosen)?.into_vec()?);
        let mut bank = Self {
            kind: config.bank,
            vectors: FlatBank::new(vectors, d, &device)?,
            owners: chosen.iter().map(|i| owners[*i]).collect(),
            entries: entry_names(context.train.paths()),
            radius: 0.0,
            device,
        };
        bank.radius = farthest(&all, unchanged, &bank.vectors)?;
        Ok(bank)
    }

    /// Numbers of the vectors of a coreset, ascending.
    fn coreset(
        all: &Buffer,
        (m, d): (usize, usize),
        count: usize,
        config: &Config,
        context: &FitContext,
    ) -> Result<Vec<usize>> {
        let (device, k) = (context.device, config.projection);
        let start = random::stream(context.seed, "coreset start", 0).random_range(0..m);
        let (mut index, mut distance) = (device.alloc::<u32>(count)?, device.alloc(count)?);
        let task = Task::new(context.observer, "choosing a coreset", count as u64, "patches");
        let mut watch = |chosen: usize| {
            task.at(chosen as u64);
            if interrupt::requested() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        if k < d {
            let mut small = device.alloc(m * k)?;
            let projection = random_projection(d, k, context.seed, device)?;
            projection.run(&[(all.view(), [1, 1, m, d])], (1, m), &mut small)?;
            greedy_coreset(&small, k, start, &mut index, &mut distance, &mut watch)?;
        } else {
            greedy_coreset(all, d, start, &mut index, &mut distance, &mut watch)?;
        }
        drop(task);
        let mut chosen: Vec<usize> = index.into_vec()?.into_iter().map(|i| i as usize).collect();
        chosen.sort_unstable();
        Ok(chosen)
    }

    /// Its vectors.
    pub fn vectors(&self) -> &FlatBank {
        &self.vectors
    }

    /// Names of the images behind it.
    pub fn entries(&self) -> &[String] {
        &self.entries
    }

    /// Adds the patches `[n, h, w, d]` of some images that are farther from the bank than any it was made of.
    ///
    /// # Errors
    /// When the device is out of memory.
    pub fn add(&mut self, patches: &Tensor, names: &[String]) -> Result<()> {
        let d = self.vectors.dimension();
        let each = patches.len() / d / names.len().max(1);
        let far = nearest(patches, &self.vectors, 1)?.distance.into_vec()?.into_iter().enumerate();
        let far: Vec<usize> = far.filter(|(_, distance)| *distance > self.radius).map(|(i, _)| i).collect();
        let first = self.entries.len();
        self.entries.extend(names.iter().cloned());
        self.owners.extend(far.iter().map(|i| (first + i / each) as u32));
        let (mut vectors, new) = (self.vectors.vectors()?, gather(patches.view(), d, &far)?.into_vec()?);
        match &mut vectors {
            BankData::F32(v) => v.extend(new),
            BankData::F16(v) => v.extend(new.into_iter().map(f16::from_f32)),
        }
        self.vectors = FlatBank::new(vectors, d, &self.device)?;
        Ok(())
    }

    /// Removes entries by name, with the vectors behind them; returns how many.
    ///
    /// # Errors
    /// When no vector would be left.
    pub fn remove(&mut self, names: &[String]) -> Result<usize> {
        let stays: Vec<bool> = self.entries.iter().map(|e| !names.contains(e)).collect();
        let kept: Vec<usize> = (0..self.owners.len()).filter(|i| stays[self.owners[*i] as usize]).collect();
        if kept.is_empty() {
            return Err(Error::Config("nothing would be left of the memory bank; keep at least one image".into()));
        }
        let removed = stays.iter().filter(|s| !**s).count();
        let number = |old: u32| stays[..old as usize].iter().filter(|s| **s).count() as u32;
        let vectors = in_precision(self.kind, self.vectors.select(&kept)?.into_vec());
        self.vectors = FlatBank::new(vectors, self.vectors.dimension(), &self.device)?;
        self.owners = kept.iter().map(|i| number(self.owners[*i])).collect();
        self.entries = self.entries.iter().zip(&stays).filter(|(_, s)| **s).map(|(e, _)| e.clone()).collect();
        Ok(removed)
    }

    /// Everything but the vectors, for the model file.
    pub fn saved(&self) -> Value {
        let saved = Saved { owners: self.owners.clone(), entries: self.entries.clone(), radius: self.radius };
        serde_json::to_value(saved).expect("names and numbers are plain data")
    }

    /// The vectors, for the model file.
    ///
    /// # Errors
    /// When the device of the weights is lost.
    pub fn stored(&self) -> Result<Stored> {
        let shape = vec![self.owners.len(), self.vectors.dimension()];
        Ok(match self.vectors.vectors()? {
            BankData::F32(values) => Stored::F32(shape, values),
            BankData::F16(values) => Stored::F16(shape, values),
        })
    }

    /// Reads a bank.
    ///
    /// # Errors
    /// When it is damaged.
    pub fn restore(saved: &Value, tensors: &BTreeMap<String, Stored>, d: usize, device: &Device) -> Result<Self> {
        let damaged = |what: String| Error::Config(format!("damaged memory bank in the model file ({what})"));
        let Saved { owners, entries, radius } =
            serde_json::from_value(saved.clone()).map_err(|e| damaged(e.to_string()))?;
        let (kind, len, values) = match tensors.get("bank") {
            Some(Stored::F32(_, v)) => (BankType::F32, v.len(), BankData::F32(v.clone())),
            Some(Stored::F16(_, v)) => (BankType::F16, v.len(), BankData::F16(v.clone())),
            None => return Err(damaged("tensor \"bank\" is missing".into())),
        };
        if !radius.is_finite() || radius < 0.0 {
            return Err(damaged(format!("a radius of {radius}")));
        }
        if owners.is_empty() || len != owners.len() * d || owners.iter().any(|o| *o as usize >= entries.len()) {
            return Err(damaged(format!("{len} values for {} vectors of {d}", owners.len())));
        }
        Ok(Self { kind, vectors: FlatBank::new(values, d, device)?, owners, entries, radius, device: device.clone() })
    }
}
