//! An embedding in a model file.

use std::collections::BTreeMap;

use hotad_engine::Result;
use hotad_engine::container::{self, Stored};
use hotad_engine::data::picture::ImageSpec;
use hotad_engine::params::{State, fetch};
use hotad_engine::tensor::Tensor;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::member_maps::Standard;
use super::{Embedding, Part};
use crate::config::{damaged, require};
use crate::features::Source;
use crate::features::settings::{NEIGHBOURHOODS, is_neighbourhood};
use crate::method::LoadContext;

/// What a model file keeps beside tensors.
#[derive(Serialize, Deserialize)]
struct Saved {
    sources: Vec<Value>,
    cuts: Vec<Vec<usize>>,
    neighbourhood: usize,
    projected: bool,
    #[serde(default)]
    standards: Vec<Option<Standard>>,
}

/// Prefix of the linear map's tensors.
const FUSION: &str = "fusion.";

/// Prefix of an extractor's tensors.
pub fn extractor(part: usize) -> String {
    format!("extractor.{part}.")
}

impl Embedding {
    /// Everything but its tensors.
    pub fn saved(&self) -> Value {
        let saved = Saved {
            sources: self.parts.iter().map(|p| p.source.saved(p.last())).collect(),
            cuts: self.parts.iter().map(|p| p.cuts.clone()).collect(),
            neighbourhood: self.neighbourhood,
            projected: self.linear.is_some(),
            standards: self.standards.clone(),
        };
        serde_json::to_value(saved).expect("an embedding is plain data")
    }

    /// Its tensors.
    ///
    /// # Errors
    /// When the device of the weights is lost.
    pub fn tensors(&self) -> Result<BTreeMap<String, Stored>> {
        let mut tensors = BTreeMap::new();
        for (i, part) in self.parts.iter().enumerate() {
            tensors.extend(part.source.tensors(part.last(), &extractor(i))?);
        }
        if let Some(linear) = &self.linear {
            let channels = linear.mean.len();
            let state = State::from([
                ("components".into(), Tensor::new(linear.components.clone(), &[self.dimensions(), channels])?),
                ("mean".into(), Tensor::new(linear.mean.clone(), &[channels])?),
            ]);
            tensors.extend(container::store(&state, FUSION)?);
        }
        Ok(tensors)
    }

    /// Whether a model file has the same networks at the same cuts. An autoencoder that is trained for this may have other
    /// weights there.
    ///
    /// # Errors
    /// When the device of the weights is lost.
    pub fn is_that_of(&self, saved: &Value, tensors: &BTreeMap<String, Stored>) -> Result<bool> {
        let own = self.saved();
        let mut same = ["sources", "cuts", "neighbourhood"].iter().all(|key| saved[key] == own[key]);
        let given = self.parts.iter().enumerate().filter(|(_, part)| !matches!(part.source, Source::Encoder(_)));
        for (i, part) in given {
            let own = part.source.tensors(part.last(), &extractor(i))?;
            same = same && own.iter().all(|(name, tensor)| tensors.get(name) == Some(tensor));
        }
        Ok(same)
    }

    /// Reads what [`Embedding::saved`] and [`Embedding::tensors`] have given.
    ///
    /// # Errors
    /// When it is damaged.
    pub fn restore(
        saved: &Value,
        image: ImageSpec,
        tensors: &BTreeMap<String, Stored>,
        context: &LoadContext,
    ) -> Result<Self> {
        let saved: Saved = serde_json::from_value(saved.clone()).map_err(damaged)?;
        let side = saved.neighbourhood;
        require(is_neighbourhood(side), "neighbourhood", side, NEIGHBOURHOODS)?;
        let count = saved.sources.len();
        if count == 0 || saved.cuts.len() != count {
            return Err(damaged(format!("{} lists of cuts for {count} networks", saved.cuts.len())));
        }
        let mut parts = Vec::with_capacity(count);
        for (i, (source, cuts)) in saved.sources.iter().zip(saved.cuts).enumerate() {
            let source = Source::restore(source, &extractor(i), tensors, context)?;
            let known = source.extractor().cuts().len();
            let ascending = !cuts.is_empty() && cuts.is_sorted_by(|a, b| a < b);
            if !ascending || cuts.iter().any(|cut| *cut >= known) {
                return Err(damaged(format!("cuts {cuts:?} of a network with {known}")));
            }
            parts.push(Part { source, cuts });
        }
        let mut embedding = Self::new(parts, image, saved.neighbourhood, context.device)?;
        embedding.expect_member_maps(saved.standards)?;
        if saved.projected {
            let state = container::restore(tensors, FUSION)?;
            let channels: usize = embedding.channels().iter().sum();
            let mean = fetch(&state, "mean", &[channels])?.values()?.into_owned();
            let rows = state.get("components").and_then(|t| t.shape().first().copied()).unwrap_or(0);
            let components = fetch(&state, "components", &[rows, channels])?.values()?.into_owned();
            embedding.set_linear(components, mean)?;
        }
        Ok(embedding)
    }
}
