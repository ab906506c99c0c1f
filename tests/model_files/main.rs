//! Model files that have been altered: by accident, which the digest tells, and by someone who has made the digest anew,
//! which must end in a line and never in a panic, an endless run or a large allocation.

mod altered;
#[path = "../common/mod.rs"]
mod common;
mod crafted;
mod described;
mod pipes;
#[path = "../common/schema.rs"]
mod schema;
#[path = "../common/small_models.rs"]
mod small_models;

use std::sync::LazyLock;

use hotad_engine::model_file::ModelFile;
use peak_alloc::PeakAlloc;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// A model of every method, by name.
static MODELS: LazyLock<Vec<(&str, ModelFile)>> = LazyLock::new(|| {
    let dir = tempfile::tempdir().expect("a folder");
    let models = small_models::train_all(dir.path()).into_iter();
    models.map(|(name, path)| (name, ModelFile::load(&path).expect("a model"))).collect()
});
