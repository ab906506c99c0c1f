//! A CUDA device that is not there: compiles every kernel launched on it to PTX and runs nothing.
//!
//! Tests drive the same launchers with it that a real device would get, with the features of its
//! compute capability, so that code which only CUDA rejects is found on a machine without a GPU.
//! Buffers hold nothing and read as zeros.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use cubecl::backtrace::BackTrace;
use cubecl::bytes::Bytes;
use cubecl::client::ComputeClient;
use cubecl::cuda::CudaCompiler;
use cubecl::device::{Device, DeviceId, DeviceService, ServerUtilitiesHandle};
use cubecl::future::DynFut;
use cubecl::ir::features::Plane;
use cubecl::ir::{
    DeviceProperties, ElemType, FloatKind, HardwareProperties, MemoryDeviceProperties, TargetProperties,
    features::TypeUsage,
};
use cubecl::prelude::ExecutionMode;
use cubecl::profile::{ProfileDuration, TimingMethod};
use cubecl::server::{
    Binding, ComputeServer, CopyDescriptor, CubeCount, IoError, KernelArguments, ProfileError, ProfilingToken,
    ServerCommunication, ServerError, ServerUtilities,
};
use cubecl::stream_id::StreamId;
use cubecl::zspace::{Shape, Strides};
use cubecl::{CubeTask, MemoryAllocationMode, MemoryUsage, Runtime};
use cubecl_cpp::cuda::arch::CudaArchitecture;
use cubecl_cpp::cuda::mma::CudaWmmaCompiler;
use cubecl_cpp::shared::{
    CompilationOptions, CppSupportedFeatures, DialectWmmaCompiler, register_mma_features, register_supported_types,
    register_wmma_features,
};
use cubecl_runtime::allocator::ContiguousMemoryLayoutPolicy;
use cubecl_runtime::id::KernelId;
use cubecl_runtime::logging::ServerLogger;
use cubecl_runtime::memory_management::ManagedMemoryHandle;
use cubecl_runtime::storage::{ComputeStorage, ManagedResource, StorageHandle, StorageId};
use cudarc::nvrtc::{CompileOptions, compile_ptx_with_opts};

use super::configuration::configure;
use super::gpu::{Client, Gpu};
use super::probe::Facts;
use crate::error::{Result, device_error};

/// One kernel variant and what NVRTC made of it.
#[derive(Clone, Debug)]
pub struct Compiled {
    /// Name of the kernel.
    pub kernel: String,
    /// Compute capability times ten.
    pub capability: u16,
    /// PTX, or NVRTC's log and the source.
    pub ptx: std::result::Result<String, String>,
}

static COMPILED: Mutex<Vec<Compiled>> = Mutex::new(Vec::new());

/// Everything compiled so far in this process.
pub fn compiled() -> Vec<Compiled> {
    COMPILED.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
}

/// A device of compute capability `capability / 10`, for example 80 or 90.
///
/// # Errors
/// When NVRTC or the CUDA headers are missing.
pub fn open(capability: u16) -> Result<Gpu> {
    // SAFETY: only tries to load the library.
    if !unsafe { cudarc::nvrtc::sys::is_culib_present() } {
        return device_error(
            "NVRTC was not found; pip install nvidia-cuda-nvrtc and set LD_LIBRARY_PATH to its lib folder",
        );
    }
    if cubecl::cuda::install::cuda_path().is_none() {
        return device_error(
            "CUDA headers were not found; pip install nvidia-cuda-runtime nvidia-cuda-crt and set CUDA_PATH to its folder",
        );
    }
    configure();
    let client = OfflineCuda::client(&Architecture(capability));
    let facts = Facts {
        name: format!("sm_{capability}"),
        description: "compiles, runs nothing".into(),
        kind: format!("compute capability {}.{}", capability / 10, capability % 10),
        f16: true,
        bf16: true,
        tensor_cores: super::cuda::has_tensor_cores(client.properties()),
        planes: true,
        largest_buffer: client.properties().memory.max_page_size,
        ..Facts::default()
    };
    Ok(Gpu::new(Client::Offline(client), facts))
}

/// Compute capability times ten.
#[derive(Clone, Debug)]
pub struct Architecture(u16);

impl Default for Architecture {
    fn default() -> Self {
        Self(80)
    }
}

impl Device for Architecture {
    fn from_id(id: DeviceId) -> Self {
        Self(id.index_id)
    }

    fn to_id(&self) -> DeviceId {
        DeviceId::new(0, self.0)
    }
}

/// The runtime.
#[derive(Clone, Debug)]
pub struct OfflineCuda;

impl Runtime for OfflineCuda {
    type Compiler = CudaCompiler;
    type Server = Server;
    type Device = Architecture;

    fn client(device: &Self::Device) -> ComputeClient<Self> {
        ComputeClient::load(device)
    }

    fn name(_: &ComputeClient<Self>) -> &'static str {
        "offline cuda"
    }

    fn require_array_lengths() -> bool {
        true
    }

    fn max_cube_count() -> (u32, u32, u32) {
        (i32::MAX as u32, 65_535, 65_535)
    }

    fn can_read_tensor(_: &Shape, _: &Strides) -> bool {
        true
    }

    fn target_properties() -> TargetProperties {
        cubecl::cuda::CudaRuntime::target_properties()
    }

    fn enumerate_devices(_: u16, _: &()) -> Vec<DeviceId> {
        Vec::new()
    }
}

/// Takes launches, compiles them.
#[derive(Debug)]
pub struct Server {
    capability: u16,
    utilities: Arc<ServerUtilities<Self>>,
    options: CompilationOptions,
    seen: HashSet<KernelId>,
}

fn properties(capability: u16) -> DeviceProperties {
    let arch = CudaArchitecture { version: u32::from(capability) };
    let hardware = HardwareProperties {
        load_width: 128,
        plane_size_min: 32,
        plane_size_max: 32,
        max_bindings: 1024,
        max_shared_memory_size: 160 << 10,
        max_cube_count: OfflineCuda::max_cube_count(),
        max_units_per_cube: 1024,
        max_cube_dim: (1024, 1024, 64),
        num_streaming_multiprocessors: Some(108),
        num_cpu_cores: None,
        num_tensor_cores: Some(4),
        min_tensor_cores_dim: Some(8),
        max_vector_size: 16,
    };
    let memory = MemoryDeviceProperties { max_page_size: 16 << 30, alignment: 512 };
    let mut properties = DeviceProperties::new(Default::default(), memory, hardware, TimingMethod::System);
    register_supported_types(&mut properties);
    properties.register_type_usage(ElemType::Float(FloatKind::TF32), TypeUsage::Conversion);
    properties.features.plane.insert(Plane::Ops);
    properties.features.plane.insert(Plane::Sync);
    register_wmma_features(CudaWmmaCompiler::supported_wmma_combinations(&arch), &mut properties);
    register_mma_features(CudaWmmaCompiler::supported_mma_combinations(&arch), &mut properties);
    properties
}

impl DeviceService for Server {
    fn init(id: DeviceId) -> Self {
        let logger = Arc::new(ServerLogger::default());
        let policy = ContiguousMemoryLayoutPolicy::new(512);
        let utilities = Arc::new(ServerUtilities::new(properties(id.index_id), logger, (), policy));
        let features = CppSupportedFeatures {
            fast_math: true,
            grid_constants: true,
            clusters: id.index_id >= 90,
            elect_sync: id.index_id >= 90,
            ..Default::default()
        };
        let options = CompilationOptions { warp_size: 32, supports_features: features };
        Self { capability: id.index_id, utilities, options, seen: HashSet::new() }
    }

    fn utilities(&self) -> ServerUtilitiesHandle {
        self.utilities.clone()
    }
}

impl Server {
    fn compile(&self, kernel: &dyn CubeTask<CudaCompiler>) -> std::result::Result<String, String> {
        let address = kernel.address_type();
        let source = kernel
            .compile(&mut Default::default(), &self.options, ExecutionMode::Unchecked, address)
            .map_err(|e| e.to_string())?
            .source;
        let include = cubecl::cuda::install::include_path();
        let options = CompileOptions {
            arch: Some(if self.capability >= 90 { "sm_90a" } else { "sm_80" }),
            include_paths: vec![include.display().to_string(), include.join("cccl").display().to_string()],
            ..Default::default()
        };
        let ptx = compile_ptx_with_opts(&source, options).map_err(|e| format!("{e:?}\n{source}"))?;
        Ok(ptx.to_src())
    }
}

/// Memory that is not there.
pub struct NoStorage;

impl ComputeStorage for NoStorage {
    type Resource = ();

    fn alignment(&self) -> usize {
        512
    }

    fn get(&mut self, _: &StorageHandle) {}

    fn alloc(&mut self, size: u64) -> std::result::Result<StorageHandle, IoError> {
        Err(IoError::BufferTooBig { size, backtrace: BackTrace::capture() })
    }

    fn dealloc(&mut self, _: StorageId) {}

    fn flush(&mut self) {}
}

fn nothing() -> ServerError {
    ServerError::Io(IoError::UnsupportedIoOperation { backtrace: BackTrace::capture() })
}

impl ServerCommunication for Server {
    const SERVER_COMM_ENABLED: bool = false;
}

impl ComputeServer for Server {
    type Kernel = Box<dyn CubeTask<CudaCompiler>>;
    type Info = ();
    type MemoryLayoutPolicy = ContiguousMemoryLayoutPolicy;
    type Storage = NoStorage;

    fn initialize_memory(&mut self, _: ManagedMemoryHandle, _: u64, _: StreamId) {}

    fn logger(&self) -> Arc<ServerLogger> {
        self.utilities.logger.clone()
    }

    fn utilities(&self) -> Arc<ServerUtilities<Self>> {
        self.utilities.clone()
    }

    fn read(&mut self, what: Vec<CopyDescriptor>, _: StreamId) -> DynFut<std::result::Result<Vec<Bytes>, ServerError>> {
        let zeros = |d: &CopyDescriptor| Bytes::from_bytes_vec(vec![0; d.handle.size_in_used() as usize]);
        let bytes = what.iter().map(zeros).collect();
        Box::pin(async move { Ok(bytes) })
    }

    fn write(&mut self, _: Vec<(CopyDescriptor, Bytes)>, _: StreamId) {}

    fn sync(&mut self, _: StreamId) -> DynFut<std::result::Result<(), ServerError>> {
        Box::pin(async { Ok(()) })
    }

    fn get_resource(&mut self, _: Binding, _: StreamId) -> std::result::Result<ManagedResource<()>, ServerError> {
        Err(nothing())
    }

    unsafe fn launch(&mut self, kernel: Self::Kernel, _: CubeCount, _: KernelArguments, _: ExecutionMode, _: StreamId) {
        if !self.seen.insert(kernel.id()) {
            return;
        }
        let ptx = self.compile(&*kernel);
        let entry = Compiled { kernel: kernel.name().to_string(), capability: self.capability, ptx };
        COMPILED.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(entry);
    }

    fn flush(&mut self, _: StreamId) -> std::result::Result<(), ServerError> {
        Ok(())
    }

    fn memory_usage(&mut self, _: StreamId) -> std::result::Result<MemoryUsage, ServerError> {
        Err(nothing())
    }

    fn memory_cleanup(&mut self, _: StreamId) {}

    fn start_profile(&mut self, _: StreamId) -> std::result::Result<ProfilingToken, ServerError> {
        Err(nothing())
    }

    fn end_profile(&mut self, _: StreamId, _: ProfilingToken) -> std::result::Result<ProfileDuration, ProfileError> {
        Err(ProfileError::NotRegistered { backtrace: BackTrace::capture() })
    }

    fn allocation_mode(&mut self, _: MemoryAllocationMode, _: StreamId) {}
}
