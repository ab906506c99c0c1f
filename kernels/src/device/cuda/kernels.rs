//! From a CubeCL kernel to a loaded function, each once.

use std::collections::HashMap;
use std::sync::Arc;

use cubecl::prelude::{ExecutionMode, Visibility};
use cubecl::server::LaunchError;
use cubecl::{CubeDim, CubeTask};
use cubecl_cpp::shared::CompilationOptions;
use cubecl_runtime::id::KernelId;
use cubecl_runtime::validation::{validate_cube_dim, validate_units};

use super::cache::Cache;
use super::driver::{Driver, Failure, Function, Result, Source};
use super::properties::{self, CudaCompiler};
use super::written;

/// A kernel that can be launched.
#[derive(Clone, Debug)]
pub struct Loaded {
    pub function: Function,
    pub source: Arc<Source>,
}

/// All kernels of a device that were launched so far.
#[derive(Debug)]
pub struct Kernels {
    driver: Arc<dyn Driver>,
    cache: Cache,
    options: CompilationOptions,
    /// A kernel that could not be made fails at every launch.
    known: HashMap<KernelId, Result<Loaded>>,
}

impl Kernels {
    pub fn new(driver: Arc<dyn Driver>, cache: Cache) -> Self {
        let options = properties::options(driver.limits().capability);
        Self { driver, cache, options, known: HashMap::new() }
    }

    /// The kernel, made now where this is its first launch.
    pub fn get(&mut self, task: &dyn CubeTask<CudaCompiler>, mode: ExecutionMode) -> Result<Loaded> {
        let mut id = task.id();
        id.mode(mode);
        if let Some(known) = self.known.get(&id) {
            return known.clone();
        }
        let made = self.make(task, mode, &id);
        self.known.insert(id, made.clone());
        made
    }

    fn make(&self, task: &dyn CubeTask<CudaCompiler>, mode: ExecutionMode, id: &KernelId) -> Result<Loaded> {
        let mut source = self.source(task, mode, id)?;
        let image = match self.cache.get(&source) {
            Some((shared, image)) => {
                source.shared = shared;
                image
            }
            None => {
                let image = self.driver.compile(&source)?;
                self.cache.put(&source, &image);
                image
            }
        };
        let function = self.driver.load(&source, &image)?;
        Ok(Loaded { function, source: Arc::new(source) })
    }

    fn source(&self, task: &dyn CubeTask<CudaCompiler>, mode: ExecutionMode, id: &KernelId) -> Result<Source> {
        let name = task.name().to_string();
        let limits = self.driver.limits();
        let properties = properties::properties(&limits);
        let refused = |e: LaunchError| Failure::Refused(format!("{name}: {e}"));
        validate_cube_dim(&properties, id).and_then(|()| validate_units(&properties, id)).map_err(refused)?;
        let compiled = task
            .compile(&mut CudaCompiler::default(), &self.options, mode, task.address_type())
            .map_err(|e| Failure::Compilation { kernel: name.clone(), log: e.to_string() })?;
        let Some(kernel) = compiled.repr else {
            let refused = || Failure::Refused(format!("{name}: there is no description of it"));
            return written::source_of(&task.id()).ok_or_else(refused);
        };
        let shared = kernel.shared_memory_size();
        if shared > limits.shared_memory {
            let most = limits.shared_memory;
            return Err(Failure::Refused(format!("{name}: {shared} bytes of shared memory, {most} is the most")));
        }
        if kernel.flags.has_dynamic_meta || !kernel.tensor_maps.is_empty() {
            return Err(Failure::Refused(format!("{name}: takes tensors; only arrays are known")));
        }
        let CubeDim { x, y, z } = compiled.cube_dim;
        Ok(Source {
            name,
            entry: compiled.entrypoint_name,
            code: compiled.source,
            block: [x, y, z],
            shared: shared as u32,
            writable: kernel.buffers.iter().map(|b| b.vis == Visibility::ReadWrite).collect(),
            has_info: kernel.flags.has_info,
            cooperative: false,
        })
    }
}
