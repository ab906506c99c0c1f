//! PyTorch beside us: a script that answers names with times.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

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
