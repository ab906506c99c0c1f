//! CubeCL's settings, which hold for the whole process and are given once, before the first client.

use std::sync::Once;
use std::time::UNIX_EPOCH;

use cubecl::config::cache::CacheConfig;
use cubecl::config::{CubeClRuntimeConfig, RuntimeConfig};

use super::probe::cache_folder;

/// Keeps compiled kernels on disk, apart for every build of the program: a kernel is known by its name
/// and settings there, not by its code.
pub fn configure() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let built = std::env::current_exe().and_then(std::fs::metadata).and_then(|m| m.modified()).ok();
        let stamp = built.and_then(|t| t.duration_since(UNIX_EPOCH).ok()).map_or(0, |d| d.as_nanos());
        let mut config = CubeClRuntimeConfig::default();
        config.compilation.cache = Some(CacheConfig::File(cache_folder().join(format!("kernels-{stamp:x}"))));
        CubeClRuntimeConfig::set(config);
    });
}
