//! CubeCL's server: takes launches in order, on a thread of its own.
//!
//! CubeCL knows buffers by handles. Here a handle is a window of the device's addresses: `offset_start` is
//! where the buffer begins, so that a launch looks nothing up. Memory is given, filled and read by
//! [`super::queue::Queue`]; CubeCL's own calls for that are refused.

use std::sync::Arc;

use cubecl::backtrace::BackTrace;
use cubecl::bytes::Bytes;
use cubecl::client::ComputeClient;
use cubecl::device::{Device, DeviceId, DeviceService, ServerUtilitiesHandle};
use cubecl::future::DynFut;
use cubecl::ir::TargetProperties;
use cubecl::prelude::ExecutionMode;
use cubecl::profile::ProfileDuration;
use cubecl::server::{
    Binding, ComputeServer, CopyDescriptor, CubeCount, IoError, KernelArguments, ProfileError, ProfilingToken,
    ServerCommunication, ServerError, ServerUtilities,
};
use cubecl::stream_id::StreamId;
use cubecl::zspace::{Shape, Strides};
use cubecl::{CubeTask, MemoryAllocationMode, MemoryUsage, Runtime};
use cubecl_runtime::allocator::ContiguousMemoryLayoutPolicy;
use cubecl_runtime::logging::ServerLogger;
use cubecl_runtime::memory_management::ManagedMemoryHandle;
use cubecl_runtime::storage::{ComputeStorage, ManagedResource, StorageHandle, StorageId};

use super::driver::{Failure, Launch, Region, Result};
use super::kernels::Kernels;
use super::properties::{self, ALIGNMENT, CudaCompiler, MOST_BLOCKS};
use super::queue::Core;
use super::recording;

/// The runtime of all drivers.
#[derive(Clone, Debug)]
pub struct Cuda;

/// Which server.
#[derive(Clone, Debug)]
pub struct Number(pub DeviceId);

impl Default for Number {
    fn default() -> Self {
        Self(DeviceId::new(0, 0))
    }
}

impl Device for Number {
    fn from_id(id: DeviceId) -> Self {
        Self(id)
    }

    fn to_id(&self) -> DeviceId {
        self.0
    }
}

impl Runtime for Cuda {
    type Compiler = CudaCompiler;
    type Server = Server;
    type Device = Number;

    fn client(device: &Number) -> ComputeClient<Self> {
        ComputeClient::load(device)
    }

    fn name(_: &ComputeClient<Self>) -> &'static str {
        "cuda"
    }

    fn require_array_lengths() -> bool {
        true
    }

    fn max_cube_count() -> (u32, u32, u32) {
        MOST_BLOCKS
    }

    fn can_read_tensor(_: &Shape, _: &Strides) -> bool {
        true
    }

    fn target_properties() -> TargetProperties {
        properties::target()
    }

    fn enumerate_devices(_: u16, _: &()) -> Vec<DeviceId> {
        Vec::new()
    }
}

/// Launches kernels.
#[derive(Debug)]
pub struct Server {
    core: Arc<Core>,
    kernels: Kernels,
    utilities: Arc<ServerUtilities<Self>>,
}

impl Server {
    pub fn new(core: Arc<Core>, kernels: Kernels) -> Self {
        let properties = properties::properties(&core.driver().limits());
        let policy = ContiguousMemoryLayoutPolicy::new(ALIGNMENT);
        let logger = Arc::new(ServerLogger::default());
        let utilities = Arc::new(ServerUtilities::new(properties, logger, (), policy));
        Self { core, kernels, utilities }
    }

    fn queue(
        &mut self,
        task: &dyn CubeTask<CudaCompiler>,
        count: CubeCount,
        arguments: &KernelArguments,
        mode: ExecutionMode,
    ) -> Result<()> {
        let loaded = self.kernels.get(task, mode)?;
        let refused = |why: String| Err(Failure::Refused(format!("{}: {why}", loaded.source.name)));
        let CubeCount::Static(x, y, z) = count else {
            return refused("its grid is not known when it is queued".into());
        };
        if x > MOST_BLOCKS.0 || y > MOST_BLOCKS.1 || z > MOST_BLOCKS.2 {
            return refused(format!("a grid of {x} x {y} x {z} blocks is too large"));
        }
        let buffers: Vec<Region> = arguments.buffers.iter().filter_map(region).collect();
        if buffers.len() != arguments.buffers.len() || buffers.len() != loaded.source.writable.len() {
            return refused("a buffer is not on this device".into());
        }
        let info = &arguments.info.data;
        if x == 0 || y == 0 || z == 0 {
            return Ok(());
        }
        let launch =
            Launch { function: loaded.function, source: &loaded.source, grid: [x, y, z], buffers: &buffers, info };
        // SAFETY: this driver has loaded the function; a binding keeps its buffer's place in the queue, and
        // its block is not released before all that was queued; the caller of `launch` vouches for the kernel.
        unsafe { self.core.driver().launch(&launch)? };
        recording::launched(&launch, &loaded.source);
        Ok(())
    }
}

/// Where the buffer of a binding lies; none for one that [`super::queue::Queue`] has not made.
fn region(binding: &Binding) -> Option<Region> {
    Some(Region { address: binding.offset_start?, bytes: binding.size_in_used() })
}

impl DeviceService for Server {
    fn init(id: DeviceId) -> Self {
        unreachable!("{id}: a server is made by opening its device")
    }

    fn utilities(&self) -> ServerUtilitiesHandle {
        self.utilities.clone()
    }
}

/// What CubeCL's own calls for memory would use.
pub struct NoStorage;

impl ComputeStorage for NoStorage {
    type Resource = ();

    fn alignment(&self) -> usize {
        ALIGNMENT
    }

    fn get(&mut self, _: &StorageHandle) {}

    fn alloc(&mut self, size: u64) -> std::result::Result<StorageHandle, IoError> {
        Err(IoError::BufferTooBig { size, backtrace: BackTrace::capture() })
    }

    fn dealloc(&mut self, _: StorageId) {}

    fn flush(&mut self) {}
}

fn not_here() -> ServerError {
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

    fn read(&mut self, _: Vec<CopyDescriptor>, _: StreamId) -> DynFut<std::result::Result<Vec<Bytes>, ServerError>> {
        Box::pin(async { Err(not_here()) })
    }

    fn write(&mut self, _: Vec<(CopyDescriptor, Bytes)>, _: StreamId) {}

    fn sync(&mut self, _: StreamId) -> DynFut<std::result::Result<(), ServerError>> {
        Box::pin(async { Err(not_here()) })
    }

    fn get_resource(&mut self, _: Binding, _: StreamId) -> std::result::Result<ManagedResource<()>, ServerError> {
        Err(not_here())
    }

    unsafe fn launch(
        &mut self,
        kernel: Self::Kernel,
        count: CubeCount,
        arguments: KernelArguments,
        mode: ExecutionMode,
        _: StreamId,
    ) {
        if let Err(failure) = self.queue(&*kernel, count, &arguments, mode) {
            recording::end();
            self.core.record(failure);
        }
    }

    fn flush(&mut self, _: StreamId) -> std::result::Result<(), ServerError> {
        Ok(())
    }

    fn memory_usage(&mut self, _: StreamId) -> std::result::Result<MemoryUsage, ServerError> {
        Err(not_here())
    }

    fn memory_cleanup(&mut self, _: StreamId) {}

    fn start_profile(&mut self, _: StreamId) -> std::result::Result<ProfilingToken, ServerError> {
        Err(not_here())
    }

    fn end_profile(&mut self, _: StreamId, _: ProfilingToken) -> std::result::Result<ProfileDuration, ProfileError> {
        Err(ProfileError::NotRegistered { backtrace: BackTrace::capture() })
    }

    fn allocation_mode(&mut self, _: MemoryAllocationMode, _: StreamId) {}
}
