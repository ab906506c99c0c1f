//! The host's C++ compiler.

use std::hash::Hash;
use std::path::{Path, PathBuf};
use std::process::Command;

use cubecl::hash::StableHasher;

use super::Settings;
use super::library::{Kernel, Scheduler};
use crate::device::cuda::cache::unique;
use crate::device::cuda::driver::Source;

/// Headers that sources include, and the two sources of the scheduler.
const SHIM: [(&str, &str); 10] = [
    ("emu.h", include_str!("shim/emu.h")),
    ("cuda_runtime.h", include_str!("shim/cuda_runtime.h")),
    ("cuda_fp16.h", include_str!("shim/cuda_fp16.h")),
    ("cuda_bf16.h", include_str!("shim/cuda_bf16.h")),
    ("mma.h", include_str!("shim/mma.h")),
    ("warp.h", include_str!("shim/warp.h")),
    ("tail.h", include_str!("shim/tail.h")),
    ("run.h", include_str!("shim/run.h")),
    ("scheduler.cpp", include_str!("shim/scheduler.cpp")),
    ("checker.cpp", include_str!("shim/checker.cpp")),
];

/// Of every source: no contraction to fused multiply-adds, so that results are those of the CPU.
const COMMON: [&str; 6] = ["-std=c++17", "-fPIC", "-w", "-fno-strict-aliasing", "-ffp-contract=off", "-fno-exceptions"];

/// Calls of the checker before every access, and where C++ leaves open what happens.
const CHECKED: [&str; 2] = [
    "-g1",
    "-fsanitize=thread,signed-integer-overflow,integer-divide-by-zero,shift,bounds,float-cast-overflow,bool,unreachable",
];

/// Delimiter of the source's own text inside it, which reports are explained with.
const TEXT_END: &str = "emu_text_end";

/// A compiler that works, and where its files go.
#[derive(Debug)]
pub struct Compiler {
    command: String,
    version: String,
    folder: PathBuf,
    shim: PathBuf,
    check: bool,
    alter: Option<fn(&str) -> String>,
}

impl Compiler {
    /// `$CXX`, `c++`, `clang++` or `g++`, whichever comes first.
    pub fn find(settings: &Settings) -> Result<Self, String> {
        let chosen = std::env::var("CXX").ok().filter(|c| !c.is_empty());
        let known = ["c++", "clang++", "g++"].map(String::from);
        let working = |command: &String| {
            let output = Command::new(command).arg("--version").output().ok().filter(|o| o.status.success())?;
            Some((command.clone(), String::from_utf8_lossy(&output.stdout).lines().next()?.to_string()))
        };
        let Some((command, version)) = chosen.iter().chain(&known).find_map(working) else {
            return Err("no C++ compiler was found; install g++ or clang++, or name one with CXX".into());
        };
        let mut hasher = StableHasher::new();
        SHIM.hash(&mut *hasher);
        let shim = settings.cache.join(format!("shim-{:016x}", hasher.finalize() as u64));
        let (check, alter) = (settings.check, settings.alter);
        let compiler = Self { command, version, folder: settings.cache.clone(), shim, check, alter };
        compiler.write_shim().map_err(|e| format!("{}: {e}", compiler.shim.display()))?;
        Ok(compiler)
    }

    fn write_shim(&self) -> std::io::Result<()> {
        std::fs::create_dir_all(&self.shim)?;
        for (name, text) in SHIM {
            let path = self.shim.join(name);
            if !path.is_file() {
                let part = self.shim.join(format!("{name}.{}", unique()));
                std::fs::write(&part, text)?;
                std::fs::rename(&part, &path)?;
            }
        }
        Ok(())
    }

    /// All that an image depends on beside the source.
    pub fn describe(&self) -> String {
        format!("{} {} {} {COMMON:?} {CHECKED:?}", self.version, self.shim.display(), self.check)
    }

    /// Compiles the scheduler and the checker where that was not done yet, and opens them.
    pub fn scheduler(&self) -> Result<Scheduler, String> {
        let library = self.shim.join("scheduler.so");
        if !library.is_file() {
            let part = self.shim.join(format!("scheduler.so.{}", unique()));
            let sources = ["scheduler.cpp", "checker.cpp"].map(|n| self.shim.join(n));
            let mut command = Command::new(&self.command);
            command.args(["-O2", "-shared"]).args(COMMON).arg("-o").arg(&part).args(sources).arg("-ldl");
            run(command)?;
            std::fs::rename(&part, &library).map_err(|e| e.to_string())?;
        }
        Scheduler::open(&library)
    }

    /// A file name that nobody else uses, without its extension.
    fn scratch(&self, entry: &str) -> PathBuf {
        let entry: String = entry.chars().take(60).collect();
        self.folder.join(format!("{entry}-{}", unique()))
    }

    /// A shared library that holds the kernel; the error is the compiler's log.
    pub fn compile(&self, source: &Source) -> Result<Vec<u8>, String> {
        let scratch = self.scratch(&source.entry);
        let [code, object, library] = ["cpp", "o", "so"].map(|e| scratch.with_extension(e));
        let made = self.compile_in([&code, &object, &library], source);
        for path in [&code, &object, &library] {
            let _ = std::fs::remove_file(path); // what was not made is not there
        }
        made
    }

    fn compile_in(&self, [code, object, library]: [&Path; 3], source: &Source) -> Result<Vec<u8>, String> {
        let text = self.translate(source)?;
        std::fs::write(code, text).map_err(|e| format!("{}: {e}", code.display()))?;
        let mut compile = Command::new(&self.command);
        compile.arg("-O1").args(COMMON).arg("-I").arg(&self.shim);
        if self.check {
            compile.args(CHECKED);
        }
        run(compile.arg("-c").arg(code).arg("-o").arg(object)).map_err(|log| format!("{log}\n{}", source.code))?;
        // Linked without the sanitizers' libraries: the checker has their functions.
        run(Command::new(&self.command).arg("-shared").arg("-o").arg(library).arg(object))?;
        std::fs::read(library).map_err(|e| e.to_string())
    }

    /// The source with shared memory as a pointer, its own text, and the function that calls the kernel.
    fn translate(&self, source: &Source) -> Result<String, String> {
        let code = self.alter.map_or(source.code.clone(), |alter| alter(&source.code));
        let mut text = String::new();
        for line in code.lines() {
            if line.starts_with("extern __shared__") {
                text.push_str("uint8* dynamic_shared_mem = emu_shared();");
            } else {
                text.push_str(line);
            }
            text.push('\n');
        }
        if text.contains(TEXT_END) {
            return Err(format!("{TEXT_END} must not stand in a source"));
        }
        let entry = &source.entry;
        let own = format!(
            "extern \"C\" const char emu_source[];\nconst char emu_source[] = R\"{TEXT_END}({text}){TEXT_END}\";\n\
             extern \"C\" const char* const emu_source_text;\nconst char* const emu_source_text = emu_source;\n"
        );
        Ok(format!("{text}{own}#define EMU_KERNEL {entry}\n#include \"tail.h\"\n"))
    }

    /// A report with the line of the source behind each entry, where `addr2line` is installed.
    pub fn explain(&self, kernel: &Kernel, report: &str) -> String {
        let library = self.scratch("report").with_extension("so");
        let written = std::fs::write(&library, kernel.image()).is_ok();
        let explained = report.lines().map(|entry| {
            let (what, offset) = entry.split_once('\t').unwrap_or((entry, ""));
            let line = Some(offset).filter(|_| written).and_then(|offset| line_at(&library, offset));
            let text = line.and_then(|n| kernel.text().lines().nth(n.checked_sub(1)?).map(str::trim));
            text.map_or(what.to_string(), |text| format!("{what}: {text}"))
        });
        let explained = explained.collect::<Vec<_>>().join("\n");
        let _ = std::fs::remove_file(&library); // as above
        explained
    }
}

/// The line of the source that the code at an offset was made from.
fn line_at(library: &Path, offset: &str) -> Option<usize> {
    let output = Command::new("addr2line").arg("-e").arg(library).arg(offset).output().ok()?;
    let place = String::from_utf8_lossy(&output.stdout).into_owned();
    let number = place.trim().rsplit(':').next()?.split(' ').next()?;
    number.parse().ok()
}

fn run(mut command: impl std::borrow::BorrowMut<Command>) -> Result<(), String> {
    let command = command.borrow_mut();
    let output = command.output().map_err(|e| format!("{command:?}: {e}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{}\n{command:?}", String::from_utf8_lossy(&output.stderr)))
}
