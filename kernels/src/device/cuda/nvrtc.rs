//! NVIDIA's compiler at run time.

use std::ffi::{CStr, CString, c_char};
use std::path::PathBuf;

use cudarc::nvrtc::{result, sys};

use super::driver::{Failure, Result, Source};

/// What NVRTC makes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Output {
    /// Machine code of one architecture.
    Cubin,
    /// Text, to be looked at.
    Ptx,
}

/// NVRTC with the headers of a toolkit, for one architecture.
#[derive(Clone, Debug)]
pub struct Nvrtc {
    options: Vec<String>,
    version: (i32, i32),
    output: Output,
}

/// The toolkit's folder: `CUDA_PATH`, or where distributions put it.
fn toolkit() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("CUDA_PATH").filter(|p| !p.is_empty()) {
        return Some(path.into());
    }
    let usual = ["/usr/local/cuda", "/opt/cuda", "/usr"].map(PathBuf::from);
    let found = usual.into_iter().find(|p| p.join("include/cuda_runtime.h").is_file());
    found.or_else(|| std::env::var_os("CUDA_HOME").map(PathBuf::from))
}

impl Nvrtc {
    /// For a compute capability times ten.
    ///
    /// # Errors
    /// When the library or the headers are missing.
    pub fn find(capability: u32, output: Output) -> std::result::Result<Self, String> {
        // SAFETY: only tries to load the library.
        if !unsafe { sys::is_culib_present() } {
            return Err("NVRTC was not found; install it (pip install nvidia-cuda-nvrtc) and put its lib folder into LD_LIBRARY_PATH".into());
        }
        let include = toolkit().map(|p| p.join("include")).filter(|p| p.join("cuda_runtime.h").is_file());
        let Some(include) = include else {
            return Err("CUDA headers were not found; install the toolkit, or pip install nvidia-cuda-runtime nvidia-cuda-crt, and set CUDA_PATH to the folder that holds include/".into());
        };
        let (mut major, mut minor) = (0, 0);
        // SAFETY: the library was found; writes two integers.
        if unsafe { sys::nvrtcVersion(&mut major, &mut minor) } != sys::nvrtcResult::NVRTC_SUCCESS {
            return Err("NVRTC does not tell its version".into());
        }
        // From 9.0 on, what only this architecture has (`a`).
        let suffix = if capability >= 90 { "a" } else { "" };
        let options = vec![
            format!("--gpu-architecture=sm_{capability}{suffix}"),
            format!("--include-path={}", include.display()),
            format!("--include-path={}", include.join("cccl").display()),
            "-lineinfo".into(),
        ];
        Ok(Self { options, version: (major, minor), output })
    }

    /// Version of the library.
    pub fn version(&self) -> (i32, i32) {
        self.version
    }

    /// All that an image depends on beside the source. The headers belong to the version.
    pub fn describe(&self) -> String {
        format!("nvrtc {:?} {:?} {:?}", self.version, self.output, self.options)
    }

    pub fn compile(&self, source: &Source) -> Result<Vec<u8>> {
        let failed = |log: String| Failure::Compilation {
            kernel: source.name.clone(),
            log: format!("{log}\n{:?}\n{}", self.options, source.code),
        };
        let code = CString::new(source.code.as_str()).map_err(|e| failed(e.to_string()))?;
        let program = result::create_program(&code, None).map_err(|e| failed(e.to_string()))?;
        // SAFETY: the program was made above and is destroyed below, once.
        let image = unsafe { result::compile_program(program, &self.options) }
            .map_err(|e| failed(log(program).unwrap_or_else(|| e.to_string())))
            .and_then(|()| image(program, self.output).map_err(|e| failed(e.to_string())));
        // SAFETY: as above.
        let _ = unsafe { result::destroy_program(program) }; // nothing is left to be done about it
        image
    }
}

fn log(program: sys::nvrtcProgram) -> Option<String> {
    // SAFETY: the caller has made the program and not destroyed it.
    let log = unsafe { result::get_program_log(program) }.ok()?;
    let bytes: Vec<u8> = log.into_iter().map(|c| c as u8).collect();
    Some(CStr::from_bytes_until_nul(&bytes).ok()?.to_string_lossy().into_owned())
}

fn image(program: sys::nvrtcProgram, output: Output) -> std::result::Result<Vec<u8>, result::NvrtcError> {
    type Size = unsafe fn(sys::nvrtcProgram, *mut usize) -> sys::nvrtcResult;
    type Read = unsafe fn(sys::nvrtcProgram, *mut c_char) -> sys::nvrtcResult;
    let (size_of, read): (Size, Read) = match output {
        Output::Cubin => (sys::nvrtcGetCUBINSize, sys::nvrtcGetCUBIN),
        Output::Ptx => (sys::nvrtcGetPTXSize, sys::nvrtcGetPTX),
    };
    let mut size = 0;
    // SAFETY: the caller has compiled the program; writes one integer.
    unsafe { size_of(program, &mut size) }.result()?;
    let mut image = vec![0_u8; size];
    // SAFETY: the image has the size that was asked for.
    unsafe { read(program, image.as_mut_ptr().cast()) }.result()?;
    Ok(image)
}

#[cfg(test)]
mod tests {
    use super::{Nvrtc, Output, Source};
    use crate::device::cuda::driver::Failure;

    fn source(code: &str) -> Source {
        Source {
            name: "a::twice".into(),
            entry: "twice".into(),
            code: code.into(),
            block: [32, 1, 1],
            shared: 0,
            writable: vec![true],
            has_info: false,
            cooperative: false,
        }
    }

    #[test]
    fn a_source_becomes_machine_code_or_an_error_that_names_it() {
        let good = source("#include <mma.h>\nextern \"C\" __global__ void twice(float* x) { x[threadIdx.x] *= 2; }");
        for (capability, output, start) in
            [(80, Output::Cubin, &b"\x7fELF"[..]), (90, Output::Cubin, b"\x7fELF"), (90, Output::Ptx, b"//\n// Gen")]
        {
            let Ok(nvrtc) = Nvrtc::find(capability, output) else { return }; // not installed here
            let image = nvrtc.compile(&good).expect("compiles");
            assert!(image.starts_with(start), "{:?}", &image[..16]);
            let failure = nvrtc.compile(&source("void twice( {")).expect_err("broken");
            let Failure::Compilation { kernel, log } = &failure else { panic!("{failure:?}") };
            assert!(kernel == "a::twice" && log.contains("void twice( {"), "{log}");
            let line = failure.to_string();
            assert!(line.contains("a::twice") && line.contains("error") && !line.contains('\n'), "{line}");
        }
    }
}
