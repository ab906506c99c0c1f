//! NVIDIA's driver, through cudarc.

use std::ffi::{CString, c_void};
use std::sync::Arc;

use cudarc::driver::sys::{
    CUdevice_attribute, CUfunction, CUfunction_attribute, CUresult, CUstream, CUstreamCaptureMode,
};
use cudarc::driver::{CudaContext, CudaStream, DriverError, result};

use super::driver::{
    Address, Driver, Failure, Function, Launch, Limits, Listed, Pinned, Region, Result, Sequence, Source,
};
use super::graph::Graph;
use super::nvrtc::Nvrtc;

/// One GPU, and the stream that all its work is in.
#[derive(Debug)]
pub struct Nvidia {
    context: Arc<CudaContext>,
    stream: Arc<CudaStream>,
    /// Where launches are captured into graphs; nothing runs in it.
    capture: Arc<CudaStream>,
    nvrtc: Nvrtc,
    limits: Limits,
    /// `HOTAD_POISON=1`: quiet NaN as f32, far out as an index.
    poison: Option<u8>,
}

/// Says which call failed, and tells an error of this call from the loss of the device.
fn failure(call: &str, error: DriverError) -> Failure {
    let name = error.error_name().map_or_else(|_| format!("{:?}", error.0), |n| n.to_string_lossy().into_owned());
    let text = error.error_string().map_or_else(|_| String::new(), |t| format!(" ({})", t.to_string_lossy()));
    let line = format!("{call}: {name}{text}");
    match error.0 {
        CUresult::CUDA_ERROR_ILLEGAL_ADDRESS
        | CUresult::CUDA_ERROR_LAUNCH_TIMEOUT
        | CUresult::CUDA_ERROR_ASSERT
        | CUresult::CUDA_ERROR_HARDWARE_STACK_ERROR
        | CUresult::CUDA_ERROR_ILLEGAL_INSTRUCTION
        | CUresult::CUDA_ERROR_MISALIGNED_ADDRESS
        | CUresult::CUDA_ERROR_INVALID_ADDRESS_SPACE
        | CUresult::CUDA_ERROR_INVALID_PC
        | CUresult::CUDA_ERROR_LAUNCH_FAILED
        | CUresult::CUDA_ERROR_ECC_UNCORRECTABLE
        | CUresult::CUDA_ERROR_NVLINK_UNCORRECTABLE
        | CUresult::CUDA_ERROR_CONTEXT_IS_DESTROYED
        | CUresult::CUDA_ERROR_DEINITIALIZED
        | CUresult::CUDA_ERROR_DEVICE_UNAVAILABLE
        | CUresult::CUDA_ERROR_UNKNOWN => Failure::Lost(line),
        _ => Failure::Refused(line),
    }
}

pub(super) fn checked<T>(call: &str, result: std::result::Result<T, DriverError>) -> Result<T> {
    result.map_err(|e| failure(call, e))
}

/// Queues a kernel in a stream.
///
/// # Safety
/// As [`Driver::launch`]; the context is the calling thread's.
unsafe fn launch_in(stream: CUstream, launch: &Launch<'_>) -> Result<()> {
    let source = launch.source;
    let mut addresses: Vec<Address> = launch.buffers.iter().map(|b| b.address).collect();
    let mut arguments: Vec<*mut c_void> = addresses.iter_mut().map(|a| std::ptr::from_mut(a).cast()).collect();
    if source.has_info {
        arguments.push(launch.info.as_ptr().cast_mut().cast());
    }
    let ([gx, gy, gz], [bx, by, bz]) = (launch.grid, source.block);
    let function = launch.function.0 as usize as CUfunction;
    let call = if source.cooperative { result::launch_cooperative_kernel } else { result::launch_kernel };
    // SAFETY: the caller vouches for function and buffers; the driver copies the arguments during the call.
    let launched = unsafe { call(function, (gx, gy, gz), (bx, by, bz), source.shared, stream, &mut arguments) };
    launched.map_err(|e| failure(&format!("launching {}", source.name), e))
}

impl Nvidia {
    /// Opens the device with this number.
    pub fn open(number: usize, capability: u32, nvrtc: Nvrtc) -> std::result::Result<Self, DriverError> {
        let context = CudaContext::new(number)?;
        let (stream, capture) = (context.new_stream()?, context.new_stream()?);
        let shared = context.attribute(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)?;
        let multiprocessors = context.attribute(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?;
        let cooperative = context.attribute(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_COOPERATIVE_LAUNCH)?;
        let limits = Limits {
            capability,
            shared_memory: shared as usize,
            multiprocessors: multiprocessors as u32,
            cooperative: cooperative != 0,
            memory: context.total_mem()? as u64,
        };
        let poison = std::env::var_os("HOTAD_POISON").filter(|v| v == "1").map(|_| 0xff);
        Ok(Self { context, stream, capture, nvrtc, limits, poison })
    }

    /// Makes the context the one of the calling thread.
    fn enter(&self) -> Result<()> {
        checked("cuCtxSetCurrent", self.context.bind_to_thread())
    }

    /// An allocation's error, with the bytes.
    fn of_allocation(&self, call: &str, asked: u64, error: DriverError) -> Failure {
        match error.0 {
            CUresult::CUDA_ERROR_OUT_OF_MEMORY => Failure::Memory { asked, free: self.free_memory() },
            _ => failure(call, error),
        }
    }
}

impl Driver for Nvidia {
    fn limits(&self) -> Limits {
        self.limits
    }

    fn toolchain(&self) -> String {
        self.nvrtc.describe()
    }

    fn poison(&self) -> Option<u8> {
        self.poison
    }

    fn compile(&self, source: &Source) -> Result<Vec<u8>> {
        self.nvrtc.compile(source)
    }

    fn load(&self, source: &Source, image: &[u8]) -> Result<Function> {
        self.enter()?;
        let name = CString::new(source.entry.as_str()).map_err(|e| Failure::Refused(e.to_string()))?;
        // SAFETY: the image is one that NVRTC made; the module is never unloaded.
        let function = unsafe {
            let module = checked("cuModuleLoadData", result::module::load_data(image.as_ptr().cast()))?;
            checked("cuModuleGetFunction", result::module::get_function(module, name))?
        };
        let most = CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
        // SAFETY: the function was loaded above.
        let set = unsafe { result::function::set_function_attribute(function, most, source.shared as i32) };
        checked("cuFuncSetAttribute", set)?;
        Ok(Function(function as usize as u64))
    }

    unsafe fn launch(&self, launch: &Launch<'_>) -> Result<()> {
        self.enter()?;
        // SAFETY: the caller vouches for the launch.
        unsafe { launch_in(self.stream.cu_stream(), launch) }
    }

    unsafe fn sequence(&self, launches: Vec<Listed>) -> Result<Box<dyn Sequence>> {
        self.enter()?;
        let stream = self.capture.cu_stream();
        let mode = CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        // SAFETY: the stream is ours, and launches are captured by this thread alone.
        checked("cuStreamBeginCapture", unsafe { result::stream::begin_capture(stream, mode) })?;
        // SAFETY: the caller vouches for every launch.
        let captured = launches.iter().try_for_each(|listed| unsafe { launch_in(stream, &listed.launch()) });
        // SAFETY: the capture was begun above; it ends whatever became of the launches.
        let graph = checked("cuStreamEndCapture", unsafe { result::stream::end_capture(stream) });
        // SAFETY: the graph is the one just captured.
        let graph = unsafe { Graph::new(self.context.clone(), self.stream.clone(), graph?) };
        captured?;
        Ok(Box::new(graph?))
    }

    fn allocate(&self, bytes: u64) -> Result<Address> {
        self.enter()?;
        // SAFETY: what it holds is not read before it is written.
        unsafe { result::malloc_sync(bytes as usize) }.map_err(|e| self.of_allocation("cuMemAlloc", bytes, e))
    }

    unsafe fn release(&self, address: Address) -> Result<()> {
        self.enter()?;
        // SAFETY: the caller vouches for the address.
        checked("cuMemFree", unsafe { result::free_sync(address) })
    }

    fn pin(&self, bytes: usize) -> Result<Pinned> {
        self.enter()?;
        // SAFETY: it is filled below before anything reads it.
        let pointer = unsafe { result::malloc_host(bytes, 0) }
            .map_err(|e| self.of_allocation("cuMemHostAlloc", bytes as u64, e))?
            .cast::<u8>();
        // SAFETY: the memory has so many bytes.
        unsafe { pointer.write_bytes(0, bytes) };
        Ok(Pinned { pointer, bytes })
    }

    unsafe fn fill(&self, region: Region, byte: u8) -> Result<()> {
        self.enter()?;
        let Region { address, bytes } = region;
        // SAFETY: the caller vouches for the region.
        let filled = unsafe { result::memset_d8_async(address, byte, bytes as usize, self.stream.cu_stream()) };
        checked("cuMemsetD8Async", filled)
    }

    unsafe fn upload(&self, to: Address, from: &[u8]) -> Result<()> {
        self.enter()?;
        // SAFETY: the caller vouches for both ends until the copy is done.
        checked("cuMemcpyHtoDAsync", unsafe { result::memcpy_htod_async(to, from, self.stream.cu_stream()) })
    }

    unsafe fn download(&self, to: &mut [u8], from: Address) -> Result<()> {
        self.enter()?;
        // SAFETY: the caller vouches for both ends until the copy is done.
        checked("cuMemcpyDtoHAsync", unsafe { result::memcpy_dtoh_async(to, from, self.stream.cu_stream()) })
    }

    fn synchronize(&self) -> Result<()> {
        checked("cuStreamSynchronize", self.stream.synchronize())
    }

    fn free_memory(&self) -> Option<u64> {
        self.context.mem_get_info().ok().map(|(free, _)| free as u64)
    }
}
