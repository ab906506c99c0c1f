//! Images of kernels on disk.

use std::hash::Hash;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use cubecl::hash::StableHasher;

use super::driver::Source;

/// A folder of images. Where it cannot be written to, nothing is kept.
#[derive(Debug)]
pub struct Cache {
    folder: PathBuf,
    /// What images depend on beside their source.
    toolchain: String,
}

/// A source without what CubeCL chooses anew in every process: the order of declarations, and where in the
/// block's shared memory an array begins. First the declarations in order, then the code.
fn canonical(code: &str) -> (Vec<&str>, Vec<&str>) {
    let kernel = code.lines().position(|l| l.contains("__global__")).unwrap_or(usize::MAX);
    let lines = code.lines().enumerate();
    let (declarations, code): (Vec<_>, Vec<_>) = lines.partition(|(i, line)| *i < kernel || is_declaration(line));
    let mut declarations: Vec<&str> =
        declarations.into_iter().map(|(_, line)| line.split("dynamic_shared_mem[").next().unwrap_or(line)).collect();
    declarations.sort_unstable();
    (declarations, code.into_iter().map(|(_, line)| line).collect())
}

/// `float l_mut_3;`, or an array in shared memory and the comment before it.
fn is_declaration(line: &str) -> bool {
    let local = line.strip_suffix(';').and_then(|l| l.rsplit_once(' ')).is_some_and(|(kind, name)| {
        name.starts_with("l_mut_") && kind.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'_')
    });
    local || line.starts_with("// Shared ") || line.contains("(&dynamic_shared_mem[")
}

impl Cache {
    pub fn new(folder: PathBuf, toolchain: String) -> Self {
        Self { folder, toolchain }
    }

    fn path(&self, source: &Source) -> PathBuf {
        let mut hasher = StableHasher::new();
        (canonical(&source.code), &self.toolchain).hash(&mut *hasher);
        let name: String = source.entry.chars().take(60).collect();
        self.folder.join(format!("{name}-{:032x}", hasher.finalize()))
    }

    /// The image of a source, if it is known, and the bytes of shared memory that it needs: those depend
    /// on where the arrays lay when it was made.
    pub fn get(&self, source: &Source) -> Option<(u32, Vec<u8>)> {
        let mut image = std::fs::read(self.path(source)).ok()?;
        let shared = image.split_off(image.len().checked_sub(4)?);
        Some((u32::from_le_bytes(shared.try_into().ok()?), image))
    }

    /// Keeps an image. It appears whole or not at all; a disk that is full costs a compilation later.
    pub fn put(&self, source: &Source, image: &[u8]) {
        let path = self.path(source);
        let part = path.with_extension(format!("{}.part", unique()));
        let written = std::fs::create_dir_all(&self.folder)
            .and_then(|()| std::fs::write(&part, [image, &source.shared.to_le_bytes()].concat()))
            .and_then(|()| std::fs::rename(&part, &path));
        if written.is_err() {
            let _ = std::fs::remove_file(&part); // there may be none
        }
    }
}

/// The end of a name that no other thread and process uses.
pub(super) fn unique() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

#[cfg(test)]
mod tests {
    use super::{Cache, Source};

    fn source(code: &str, shared: u32) -> Source {
        Source {
            name: "a::b".into(),
            entry: "b".into(),
            code: code.into(),
            block: [32, 1, 1],
            shared,
            writable: Vec::new(),
            has_info: false,
            cooperative: false,
        }
    }

    #[test]
    fn an_image_is_known_by_source_and_toolchain() {
        let folder = std::env::temp_dir().join(format!("hotad-cache-test-{}", std::process::id()));
        let cache = Cache::new(folder.clone(), "sm_90".into());
        let kernel = "struct a;\nstruct b;\n__global__ void b() {\nint l_mut_1;\nint l_mut_2;\nx;\ny;\n\
                      int *s = (int*)(&dynamic_shared_mem[8]);\n}";
        assert_eq!(cache.get(&source(kernel, 0)), None);
        cache.put(&source(kernel, 48), &[1, 2]);
        let same = [
            kernel.to_string(),
            kernel.replace("struct a;\nstruct b;", "struct b;\nstruct a;"),
            kernel.replace("int l_mut_1;\nint l_mut_2;", "int l_mut_2;\nint l_mut_1;"),
            kernel.replace("[8]", "[0]"),
        ];
        for code in same {
            assert_eq!(cache.get(&source(&code, 0)), Some((48, vec![1, 2])), "{code}");
        }
        for code in [kernel.replace("x;\ny;", "y;\nx;"), kernel.replace("struct a", "struct c")] {
            assert_eq!(cache.get(&source(&code, 0)), None, "{code}");
        }
        assert_eq!(Cache::new(folder.clone(), "sm_80".into()).get(&source(kernel, 0)), None);
        std::fs::remove_dir_all(folder).expect("removed");
    }

    #[test]
    fn threads_that_keep_one_image_never_show_a_part_of_it() {
        let folder = std::env::temp_dir().join(format!("hotad-cache-threads-{}", std::process::id()));
        let (cache, image) = (Cache::new(folder.clone(), "sm_90".into()), vec![7; 1 << 20]);
        let source = source("__global__ void b() {}", 0);
        cache.put(&source, &image);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| (0..200).for_each(|_| cache.put(&source, &image)));
            }
            for _ in 0..800 {
                assert!(cache.get(&source) == Some((0, image.clone())), "a part of an image");
            }
        });
        std::fs::remove_dir_all(folder).expect("removed");
    }
}
