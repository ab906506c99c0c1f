//! The name of a device, as users give it.

use std::str::FromStr;

use crate::error::{KernelError, Result, device_error};

/// A device by name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceName {
    /// `auto`: the first CUDA device, else the first hardware wgpu adapter, else the CPU.
    #[default]
    Auto,
    /// `cpu`.
    Cpu,
    /// `cuda:N`; `cuda` is the first.
    Cuda(u16),
    /// `wgpu:N`; `wgpu` is the first.
    Wgpu(u16),
}

impl FromStr for DeviceName {
    type Err = KernelError;

    fn from_str(name: &str) -> Result<Self> {
        let (kind, number) = name.split_once(':').unwrap_or((name, "0"));
        match (kind, number.parse()) {
            _ if name == "auto" => Ok(Self::Auto),
            _ if name == "cpu" => Ok(Self::Cpu),
            ("cuda", Ok(number)) => Ok(Self::Cuda(number)),
            ("wgpu", Ok(number)) => Ok(Self::Wgpu(number)),
            _ => device_error(format!("device {name:?}: use auto, cpu, cuda[:N] or wgpu[:N]")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_apart() {
        let cases = [
            ("auto", DeviceName::Auto),
            ("cpu", DeviceName::Cpu),
            ("cuda", DeviceName::Cuda(0)),
            ("cuda:3", DeviceName::Cuda(3)),
            ("wgpu:0", DeviceName::Wgpu(0)),
        ];
        for (name, device) in cases {
            assert_eq!(name.parse(), Ok(device));
        }
        for name in ["", "tpu", "cpu:0", "auto:1", "cuda:", "cuda:x", "cuda:-1", "wgpu:65536", "cuda:0:1"] {
            let error = name.parse::<DeviceName>().expect_err(name).to_string();
            assert!(error.contains(&format!("{name:?}: use auto")), "{error}");
        }
    }
}
