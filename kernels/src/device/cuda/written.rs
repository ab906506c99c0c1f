//! Kernels written in CUDA C++, launched in the order of CubeCL's.

use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex, PoisonError};

use bytemuck::Pod;
use cubecl::ir::{AddressType, StorageType};
use cubecl::prelude::{CompiledKernel, ExecutionMode, KernelId, KernelMetadata};
use cubecl::server::{Handle, KernelArguments, MetadataBindingInfo};
use cubecl::{CubeDim, CubeTask};
use cubecl_cpp::shared::CompilationOptions;
use cubecl_runtime::compiler::CompilationError;

use super::Queue;
use super::driver::Source;
use super::properties::CudaCompiler;
use crate::device::launch::grid;

/// Asynchronous copies, conversions and products of a warp, a part of most sources.
pub const WARP: &str = include_str!("warp.cuh");

/// Barriers of the blocks of a cooperative launch; behind [`WARP`].
pub const COOPERATIVE: &str = include_str!("cooperative.cuh");

/// A kernel in CUDA C++ and what it is compiled for. Its arguments are pointers, then a struct by value.
#[derive(Clone, Debug)]
pub struct Written {
    /// Name of the `extern "C"` function.
    pub entry: &'static str,
    /// Texts of the source in their order, behind the macros.
    pub parts: &'static [&'static str],
    /// Definitions of macros, a line each; these and the entry tell kernels apart.
    pub macros: Arc<str>,
    /// Threads of a block.
    pub threads: u32,
    /// Bytes of dynamic shared memory of a block.
    pub shared: u32,
    /// For each pointer whether the kernel writes to it.
    pub writable: &'static [bool],
    /// Whether its blocks wait for each other.
    pub cooperative: bool,
}

impl PartialEq for Written {
    fn eq(&self, other: &Self) -> bool {
        self.entry == other.entry && self.macros == other.macros
    }
}

impl Eq for Written {}

impl Hash for Written {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.entry, &self.macros).hash(state);
    }
}

/// Definitions of macros.
pub fn macros(values: &[(&str, usize)]) -> Arc<str> {
    values.iter().map(|(name, value)| format!("#define {name} {value}\n")).collect::<String>().into()
}

/// Sources of kernels that the server is about to make: CubeCL's description has no place for them.
static SOURCES: Mutex<Option<HashMap<KernelId, Source>>> = Mutex::new(None);

/// The source of a kernel that was compiled just now, if it was written by hand.
pub fn source_of(id: &KernelId) -> Option<Source> {
    SOURCES.lock().unwrap_or_else(PoisonError::into_inner).as_ref()?.get(id).cloned()
}

impl KernelMetadata for Written {
    fn name(&self) -> &'static str {
        self.entry
    }

    fn id(&self) -> KernelId {
        KernelId::new::<Self>().info(self.clone())
    }

    fn address_type(&self) -> StorageType {
        AddressType::U64.unsigned_type()
    }
}

impl CubeTask<CudaCompiler> for Written {
    fn compile(
        &self,
        _: &mut CudaCompiler,
        _: &CompilationOptions,
        _: ExecutionMode,
        _: StorageType,
    ) -> Result<CompiledKernel<CudaCompiler>, CompilationError> {
        let code = format!("{}{}", self.macros, self.parts.concat());
        let source = Source {
            name: self.entry.into(),
            entry: self.entry.into(),
            code: code.clone(),
            block: [self.threads, 1, 1],
            shared: self.shared,
            writable: self.writable.to_vec(),
            has_info: true,
            cooperative: self.cooperative,
        };
        let mut sources = SOURCES.lock().unwrap_or_else(PoisonError::into_inner);
        sources.get_or_insert_default().insert(self.id(), source);
        Ok(CompiledKernel {
            entrypoint_name: self.entry.into(),
            debug_name: None,
            source: code,
            repr: None,
            cube_dim: CubeDim::new_1d(self.threads),
            debug_info: None,
        })
    }
}

/// Queues a kernel of `blocks` blocks, along two axes where one is too short; nothing for none.
pub fn launch(queue: &Queue, kernel: Written, blocks: usize, buffers: &[&Handle], arguments: &impl Pod) {
    if blocks == 0 {
        return;
    }
    let mut info = vec![0u64; size_of_val(arguments).div_ceil(8)];
    bytemuck::cast_slice_mut::<u64, u8>(&mut info)[..size_of_val(arguments)]
        .copy_from_slice(bytemuck::bytes_of(arguments));
    let arguments = KernelArguments {
        buffers: buffers.iter().map(|handle| (*handle).clone().binding()).collect(),
        info: MetadataBindingInfo::custom(info),
        tensor_maps: Vec::new(),
    };
    // SAFETY: every kernel skips the access when an index is beyond the lengths that its public function has
    // checked, and all its loops are bounded by them.
    unsafe { queue.client().launch_unchecked(Box::new(kernel), grid(blocks), arguments) };
}
