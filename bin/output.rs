//! Files and lines that commands write: results on stdout, maps, overlays.

use std::io::Write;
use std::path::{Path, PathBuf};

use hotad_engine::data::picture::Picture;
use hotad_engine::{AtPath, Result, atomic_file};

/// Prints one line to stdout; a closed pipe comes back as an error, not a panic.
pub fn line(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}").and_then(|()| out.flush()).at(Path::new("stdout"))
}

/// Makes a folder and makes sure that it can be written to.
pub fn folder(path: &Path) -> Result<()> {
    std::fs::create_dir_all(path).at(path)?;
    writable(path)
}

/// Fails early where a result could not be written.
pub fn writable(folder: &Path) -> Result<()> {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    tempfile::Builder::new().prefix(".hotad-").tempfile_in(folder).map(drop).at(folder)
}

/// Colour of a map value where 0.5 is the threshold: blue over green and yellow to red.
fn heat(v: f32) -> [f32; 3] {
    const STOPS: [[f32; 3]; 5] =
        [[0.05, 0.05, 0.35], [0.0, 0.45, 0.75], [0.2, 0.75, 0.35], [0.98, 0.8, 0.1], [0.85, 0.1, 0.1]];
    let at = v.clamp(0.0, 1.0) * (STOPS.len() - 1) as f32;
    let low = (at as usize).min(STOPS.len() - 2);
    let part = at - low as f32;
    std::array::from_fn(|k| STOPS[low][k] * (1.0 - part) + STOPS[low + 1][k] * part)
}

/// Scale of a map for pictures: 0.5 at the threshold.
pub fn relative(value: f32, threshold: f32) -> f32 {
    (0.5 * value / threshold.max(1e-9)).clamp(0.0, 1.0)
}

/// The image with its anomaly map laid over, and the outline of what exceeds the threshold in red.
pub fn overlay(image: &Picture, map: &[f32], threshold: f32) -> Picture {
    let mut picture = image.clone().with_channels(3);
    let (h, w) = (picture.height, picture.width);
    let hit = |y: usize, x: usize| map[y * w + x] > threshold;
    for y in 0..h {
        for x in 0..w {
            let v = relative(map[y * w + x], threshold);
            let edge = hit(y, x)
                && [(0, 1), (1, 0), (0, -1), (-1, 0)].iter().any(|(dy, dx)| {
                    let (ny, nx) = (y as isize + dy, x as isize + dx);
                    ny < 0 || nx < 0 || ny >= h as isize || nx >= w as isize || !hit(ny as usize, nx as usize)
                });
            let weight = if edge { 1.0 } else { 0.6 * v };
            let colour = if edge { [1.0, 0.0, 0.0] } else { heat(v) };
            let pixel = &mut picture.values[(y * w + x) * 3..(y * w + x) * 3 + 3];
            pixel.iter_mut().zip(colour).for_each(|(p, c)| *p = *p * (1.0 - weight) + c * weight);
        }
    }
    picture
}

/// Writes a two-dimensional f32 array in NumPy's format 1.0.
pub fn write_npy(path: &Path, values: &[f32], height: usize, width: usize) -> Result<()> {
    let mut header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({height}, {width}), }}");
    let padding = 64 - (10 + header.len() + 1) % 64;
    header.push_str(&" ".repeat(padding));
    header.push('\n');
    atomic_file::write(path, |out| {
        out.write_all(b"\x93NUMPY\x01\x00")?;
        out.write_all(&(header.len() as u16).to_le_bytes())?;
        out.write_all(header.as_bytes())?;
        values.iter().try_for_each(|v| out.write_all(&v.to_le_bytes()))
    })
}

/// All images under the given files and folders (folders are searched deeply, in name order), each
/// with a name that is unique among them.
pub fn collect_images(paths: &[PathBuf]) -> Result<Vec<(PathBuf, String)>> {
    let mut found = Vec::new();
    for path in paths {
        if path.is_dir() {
            walk(path, "", &mut found)?;
        } else {
            std::fs::metadata(path).at(path)?;
            found.push((path.clone(), stem(path)));
        }
    }
    let mut used = std::collections::HashSet::new();
    for (_, name) in &mut found {
        let base = name.clone();
        let mut n = 2;
        while !used.insert(name.clone()) {
            *name = format!("{base}-{n}");
            n += 1;
        }
    }
    Ok(found)
}

fn stem(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

fn walk(folder: &Path, prefix: &str, found: &mut Vec<(PathBuf, String)>) -> Result<()> {
    for image in hotad_engine::data::images_in(folder)? {
        let name = format!("{prefix}{}", stem(&image));
        found.push((image, name));
    }
    let mut folders: Vec<PathBuf> =
        std::fs::read_dir(folder).at(folder)?.flatten().map(|e| e.path()).filter(|p| p.is_dir()).collect();
    folders.sort();
    for inner in folders {
        let name = inner.file_name().unwrap_or_default().to_string_lossy().into_owned();
        walk(&inner, &format!("{prefix}{name}__"), found)?;
    }
    Ok(())
}
