//! PyTorch beside us: a script that answers names with times.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use hotad_kernels::simd::{Isa, isa};

/// What keeps the peers to our instruction set: PyTorch's own loops, oneDNN, MKL, OpenVINO and
/// faiss. ONNX Runtime knows no such setting and uses what the CPU has.
fn same_instructions() -> &'static [(&'static str, &'static str)] {
    match isa() {
        Isa::Portable => &[
            ("ATEN_CPU_CAPABILITY", "default"),
            ("ONEDNN_MAX_CPU_ISA", "SSE41"),
            ("OV_CPU_MAX_ISA", "SSE42"),
            ("MKL_ENABLE_INSTRUCTIONS", "SSE4_2"),
            ("FAISS_OPT_LEVEL", "generic"),
        ],
        Isa::Avx2 => &[
            ("ATEN_CPU_CAPABILITY", "avx2"),
            ("ONEDNN_MAX_CPU_ISA", "AVX2"),
            ("OV_CPU_MAX_ISA", "AVX2"),
            ("MKL_ENABLE_INSTRUCTIONS", "AVX2"),
            ("FAISS_OPT_LEVEL", "AVX2"),
        ],
        Isa::Avx512 => &[("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_BF16"), ("OV_CPU_MAX_ISA", "AVX512_CORE_BF16")],
        _ => &[],
    }
}

/// The baseline script, answering names with times.
pub struct Baseline {
    child: Child,
    ask: ChildStdin,
    answers: BufReader<ChildStdout>,
    /// PyTorch's version and settings.
    pub version: String,
}

impl Baseline {
    /// Starts the script for a device; `None` without PyTorch or without the device.
    pub fn start(device: &str, precision: &str) -> Option<Self> {
        let python = std::env::var("HOTAD_PYTHON").unwrap_or_else(|_| "python3".into());
        let script = "benches/baselines/torch_ops.py"; // cargo runs benches in the package's folder
        let mut child = Command::new(&python)
            .args([script, device, precision])
            .envs(same_instructions().iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let (ask, mut answers) = (child.stdin.take()?, BufReader::new(child.stdout.take()?));
        let mut version = String::new();
        answers.read_line(&mut version).ok()?;
        version.contains("torch").then_some(Self { child, ask, answers, version: version.trim().into() })
    }

    /// Median seconds of a call, run eagerly or as a replayed CUDA graph.
    pub fn measure(&mut self, name: &str, how: &str) -> Option<f64> {
        writeln!(self.ask, "{name} {how}").ok()?;
        let mut answer = String::new();
        self.answers.read_line(&mut answer).ok()?;
        serde_json::from_str::<serde_json::Value>(&answer).ok()?["seconds"].as_f64()
    }
}

impl Drop for Baseline {
    fn drop(&mut self) {
        let _ = self.child.kill(); // it may have ended by itself
        let _ = self.child.wait();
    }
}
