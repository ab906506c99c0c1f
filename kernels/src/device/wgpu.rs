//! Finding and opening wgpu adapters (Vulkan, Metal, DX12).

use std::sync::{Mutex, PoisonError};

use cubecl::Runtime;
use cubecl::bytes::Bytes;
use cubecl::client::ComputeClient;
use cubecl::ir::{ElemType, FloatKind};
use cubecl::server::{Handle, IoError, LaunchError, ServerError};
use cubecl::wgpu::{AutoGraphicsApi, GraphicsApi, RuntimeOptions, WgpuDevice, WgpuRuntime, init_setup};
use wgpu::{AdapterInfo, DeviceType};

use super::configuration::configure;
use super::gpu::{Client, Gpu, Told};
use super::probe::{Facts, Probe};
use crate::error::{Result, device_error};

/// Adapters in the order of their numbers: hardware before software.
fn adapters() -> Vec<(AdapterInfo, wgpu::Adapter)> {
    let backend = AutoGraphicsApi::backend();
    let descriptor =
        wgpu::InstanceDescriptor { backends: backend.into(), ..wgpu::InstanceDescriptor::new_without_display_handle() };
    let instance = wgpu::Instance::new(descriptor);
    let found = cubecl::future::block_on(instance.enumerate_adapters(backend.into()));
    let mut found: Vec<_> = found.into_iter().map(|a| (a.get_info(), a)).collect();
    found.sort_by_key(|(info, _)| rank(info.device_type));
    found
}

fn rank(kind: DeviceType) -> u8 {
    match kind {
        DeviceType::DiscreteGpu => 0,
        DeviceType::IntegratedGpu => 1,
        DeviceType::VirtualGpu => 2,
        DeviceType::Other => 3,
        DeviceType::Cpu => 4,
    }
}

/// How CubeCL names the adapter at `number`: by type and place among those of that type.
fn device(adapters: &[(AdapterInfo, wgpu::Adapter)], number: usize) -> WgpuDevice {
    let kind = adapters[number].0.device_type;
    let place = adapters[..number].iter().filter(|(info, _)| info.device_type == kind).count();
    match kind {
        DeviceType::DiscreteGpu => WgpuDevice::DiscreteGpu(place),
        DeviceType::IntegratedGpu => WgpuDevice::IntegratedGpu(place),
        DeviceType::VirtualGpu => WgpuDevice::VirtualGpu(place),
        DeviceType::Cpu => WgpuDevice::Cpu,
        DeviceType::Other => WgpuDevice::DefaultDevice,
    }
}

fn facts(number: usize, info: &AdapterInfo, adapter: &wgpu::Adapter) -> Facts {
    let features = adapter.features();
    let software = info.device_type == DeviceType::Cpu;
    Facts {
        name: format!("wgpu:{number}"),
        description: info.name.clone(),
        memory: None,
        driver: format!("{} {}", info.driver, info.driver_info).trim().to_string(),
        kind: format!("{:?} adapter, {:?}", info.device_type, info.backend),
        software,
        f16: features.contains(wgpu::Features::SHADER_F16),
        bf16: false,
        tensor_cores: false,
        planes: features.contains(wgpu::Features::SUBGROUP) && !software,
        largest_buffer: adapter.limits().max_storage_buffer_binding_size,
    }
}

/// All adapters, or why there is none.
pub fn probe() -> Vec<Probe> {
    let adapters = adapters();
    if adapters.is_empty() {
        let reason = format!("no {:?} adapter; install a GPU driver", AutoGraphicsApi::backend());
        return vec![Probe { name: "wgpu".into(), outcome: Err(reason) }];
    }
    let found = adapters.iter().enumerate();
    found
        .map(|(n, (info, adapter))| Probe { name: format!("wgpu:{n}"), outcome: Ok(facts(n, info, adapter)) })
        .collect()
}

/// Most kernels of a submission: those of scoring a batch are one, but for methods in many iterations.
const TASKS_MAX: usize = 256;

/// The client of an adapter, whose server is made once a process. `CUBECL_WGPU_MAX_TASKS` is CubeCL's variable for the same.
fn client(device: &WgpuDevice) -> ComputeClient<WgpuRuntime> {
    static OPEN: Mutex<Vec<WgpuDevice>> = Mutex::new(Vec::new());
    let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
    if !open.contains(device) {
        let mut options = RuntimeOptions::default();
        if std::env::var_os("CUBECL_WGPU_MAX_TASKS").is_none() {
            options.tasks_max = TASKS_MAX;
        }
        init_setup::<AutoGraphicsApi>(device, options);
        open.push(device.clone());
    }
    WgpuRuntime::client(device)
}

/// Opens the adapter with this number.
pub fn open(number: usize) -> Result<Gpu> {
    let adapters = adapters();
    let Some((info, adapter)) = adapters.get(number) else {
        return match adapters.len() {
            0 => device_error(format!("device wgpu:{number}: no adapter; install a Vulkan, Metal or DX12 driver")),
            n => device_error(format!("device wgpu:{number}: there are {n} adapters, numbered from 0")),
        };
    };
    let mut facts = facts(number, info, adapter);
    configure();
    let client = client(&device(&adapters, number));
    facts.f16 = client.properties().supports_type(ElemType::Float(FloatKind::F16));
    Ok(Gpu::new(Client::Wgpu(client), facts))
}

/// Result of CubeCL's client.
type Answer<T> = std::result::Result<T, ServerError>;

/// A buffer that holds these bytes.
pub fn create(client: &ComputeClient<WgpuRuntime>, bytes: Vec<u8>) -> Handle {
    client.create(Bytes::from_bytes_vec(bytes))
}

/// The bytes of a buffer.
pub fn read(client: &ComputeClient<WgpuRuntime>, handle: &Handle) -> Answer<Bytes> {
    client.flush()?; // a read alone does not tell of launches that were refused
    client.read_one(handle.clone())
}

/// Waits for all queued work.
pub fn synchronize(client: &ComputeClient<WgpuRuntime>) -> Answer<()> {
    cubecl::future::block_on(client.sync())
}

/// Bytes in use and bytes reserved.
pub fn memory(client: &ComputeClient<WgpuRuntime>) -> Answer<(u64, u64)> {
    client.memory_usage().map(|usage| (usage.bytes_in_use, usage.bytes_reserved))
}

/// What a user can do something about.
#[derive(PartialEq)]
enum Cause {
    Memory,
    Compilation,
    Other,
}

/// The cause by the kind of the error: its text holds whole kernels and may name anything.
fn cause(error: &ServerError) -> Cause {
    let of_launch = |e: &LaunchError| match e {
        LaunchError::CompilationError(_) => Cause::Compilation,
        LaunchError::OutOfMemory { .. } | LaunchError::IoError(IoError::BufferTooBig { .. }) => Cause::Memory,
        _ => Cause::Other,
    };
    match error {
        ServerError::Launch(e) => of_launch(e),
        ServerError::Io(IoError::BufferTooBig { .. }) => Cause::Memory,
        ServerError::ServerUnhealthy { errors, .. } => {
            errors.iter().map(cause).find(|c| *c != Cause::Other).unwrap_or(Cause::Other)
        }
        _ => Cause::Other,
    }
}

/// The first line that says something of its own.
fn first_line(text: &str) -> String {
    let generic = |l: &&str| !l.is_empty() && !l.starts_with("Caused by") && !l.ends_with("during execution");
    let line = text.lines().map(str::trim).find(generic).unwrap_or("unknown error");
    line.chars().take(200).collect()
}

impl Told for ServerError {
    fn line(&self) -> String {
        match cause(self) {
            Cause::Memory => "out of memory".into(),
            Cause::Compilation => format!("a kernel failed to compile: {}", first_line(&self.to_string())),
            Cause::Other => format!("the device was lost or a launch failed: {}", first_line(&self.to_string())),
        }
    }

    fn is_memory(&self) -> bool {
        cause(self) == Cause::Memory
    }

    fn log(&self) -> Option<String> {
        Some(self.to_string())
    }
}
