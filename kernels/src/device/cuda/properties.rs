//! What CubeCL is told of a device, and how it compiles for it.

use cubecl::ir::features::{MmaConfig, Plane, TypeUsage};
use cubecl::ir::{
    ContiguousElements, DeviceProperties, ElemType, FloatKind, HardwareProperties, MatrixLayout,
    MemoryDeviceProperties, MmaProperties, TargetProperties,
};
use cubecl::profile::TimingMethod;
use cubecl_cpp::cuda::CudaDialect;
use cubecl_cpp::cuda::arch::CudaArchitecture;
use cubecl_cpp::cuda::mma::{CudaWmmaCompiler, contiguous_elements_cuda};
use cubecl_cpp::shared::{
    CompilationOptions, CppCompiler, CppSupportedFeatures, DialectWmmaCompiler, register_mma_features,
    register_supported_types, register_wmma_features,
};

use super::driver::Limits;

/// CubeCL's kernels as CUDA C++, tensor cores through `nvcuda::wmma`.
pub type CudaCompiler = CppCompiler<CudaDialect<CudaWmmaCompiler>>;

/// Bytes that every buffer's address is a multiple of.
pub const ALIGNMENT: usize = 256;

/// Blocks of a grid along each axis.
pub const MOST_BLOCKS: (u32, u32, u32) = (i32::MAX as u32, 65_535, 65_535);

/// Oldest capability: scalars are passed as a struct by value, which CubeCL does from here on.
pub const OLDEST_CAPABILITY: u32 = 70;

/// A device's features by its compute capability.
pub fn properties(limits: &Limits) -> DeviceProperties {
    let arch = CudaArchitecture { version: limits.capability };
    let hardware = HardwareProperties {
        load_width: 128,
        plane_size_min: 32,
        plane_size_max: 32,
        max_bindings: 1024,
        max_shared_memory_size: limits.shared_memory,
        max_cube_count: MOST_BLOCKS,
        max_units_per_cube: 1024,
        max_cube_dim: (1024, 1024, 64),
        num_streaming_multiprocessors: Some(limits.multiprocessors),
        num_cpu_cores: None,
        num_tensor_cores: Some(4),
        min_tensor_cores_dim: Some(8),
        max_vector_size: 16,
    };
    let memory = MemoryDeviceProperties { max_page_size: limits.memory, alignment: ALIGNMENT as u64 };
    let mut properties = DeviceProperties::new(Default::default(), memory, hardware, TimingMethod::System);
    register_supported_types(&mut properties);
    properties.register_type_usage(ElemType::Float(FloatKind::TF32), TypeUsage::Conversion);
    properties.features.plane.insert(Plane::Ops);
    properties.features.plane.insert(Plane::Sync);
    register_wmma_features(CudaWmmaCompiler::supported_wmma_combinations(&arch), &mut properties);
    register_mma_features(CudaWmmaCompiler::supported_mma_combinations(&arch), &mut properties);
    properties
}

/// How kernels are compiled for a compute capability.
pub fn options(capability: u32) -> CompilationOptions {
    let features = CppSupportedFeatures {
        fast_math: true,
        grid_constants: true,
        clusters: capability >= 90,
        elect_sync: capability >= 90,
        ..Default::default()
    };
    CompilationOptions { warp_size: 32, supports_features: features }
}

/// What holds for every CUDA device.
pub fn target() -> TargetProperties {
    TargetProperties {
        mma: MmaProperties {
            register_size_bits: 32,
            const_plane_size: 32,
            register_layout_a: MatrixLayout::RowMajor,
            register_layout_b: MatrixLayout::ColMajor,
            register_layout_acc: MatrixLayout::RowMajor,
            register_duplication_a: 1,
            register_duplication_b: 1,
            register_duplication_acc: 1,
            contiguous_elements: ContiguousElements::new(contiguous_elements_cuda),
        },
    }
}

/// Whether 16x16x16 products of f16 and bf16 with f32 sums are there, and the tf32 ones.
pub fn has_tensor_cores(limits: &Limits) -> bool {
    let properties = properties(limits);
    let has = |kind: FloatKind, k: u32| {
        let t = ElemType::Float(kind).into();
        let cd_type = ElemType::Float(FloatKind::F32).into();
        properties.features.matmul.cmma.contains(&MmaConfig { a_type: t, b_type: t, cd_type, m: 16, n: 16, k })
    };
    has(FloatKind::F16, 16) && has(FloatKind::BF16, 16) && has(FloatKind::TF32, 8)
}
