//! Weight files with broken bytes: each is read or refused, without a panic and without taking memory
//! that its length does not explain. `HOTAD_FUZZ_CASES` sets how many.

use std::io::{Cursor, Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use hotad_engine::{random, weights};
use rand::Rng;
use zip::read::{ArchiveOffset, Config};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

use crate::peak_memory::{alone, measured};
use crate::vectors;

/// Cases without `HOTAD_FUZZ_CASES`.
const CASES: u64 = 20_000;
/// Most that a case may take, in bytes; the files are below 10 KB.
const MOST: usize = 64 << 20;
/// Lengths and counts that arithmetic goes wrong with.
const NUMBERS: [u64; 10] = [0, 1, 0x7f, 0xff, 0xffff, 0x7fff_ffff, 0xffff_ffff, 1 << 40, i64::MAX as u64, u64::MAX];

/// A file, and its entries when it is an archive.
struct Seed {
    bytes: Vec<u8>,
    entries: Vec<(String, Vec<u8>)>,
}

#[test]
fn broken_files_neither_panic_nor_take_memory() {
    if !alone("mutated::broken_files_neither_panic_nor_take_memory") {
        return;
    }
    let cases =
        std::env::var("HOTAD_FUZZ_CASES").ok().map_or(CASES, |v| v.parse().expect("HOTAD_FUZZ_CASES is a number"));
    let seeds = seeds();
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("broken");
    let (mut read, mut peak) = (0, 0);
    for case in 0..cases {
        let bytes = broken(&seeds, case);
        std::fs::write(&path, &bytes).expect("a broken file");
        let (good, taken) = measured(|| is_read(&path, case));
        assert!(taken < MOST, "case {case} ({} bytes) takes {taken} bytes of memory", bytes.len());
        read += u64::from(good);
        peak = peak.max(taken);
    }
    // Some mutations hit what is not read, and some are noticed; otherwise the mutations would test nothing.
    assert!(read > cases / 100 && read < cases / 2, "{read} of {cases} broken files were read");
    println!("{cases} broken files, {read} of them still read, at most {peak} bytes of memory");
}

/// Whether a file is read.
fn is_read(path: &Path, case: u64) -> bool {
    let outcome = catch_unwind(AssertUnwindSafe(|| weights::open(path).map(drop)));
    let outcome = outcome.unwrap_or_else(|_| panic!("case {case} panics"));
    if let Err(e) = &outcome {
        let line = e.to_string();
        assert!(!line.contains('\n') && line.len() < 2000, "case {case}: {line}");
    }
    outcome.is_ok()
}

fn seeds() -> Vec<Seed> {
    let mut paths: Vec<_> = std::fs::read_dir(vectors()).expect("vectors").flatten().map(|f| f.path()).collect();
    paths.sort();
    let files = paths.into_iter().filter(|p| p.extension().is_some_and(|e| e != "json" && e != "py"));
    files.map(|p| std::fs::read(p).expect("a vector")).map(|bytes| Seed { entries: entries(&bytes), bytes }).collect()
}

fn entries(bytes: &[u8]) -> Vec<(String, Vec<u8>)> {
    let config = Config { archive_offset: ArchiveOffset::Known(0) };
    let Ok(mut archive) = ZipArchive::with_config(config, Cursor::new(bytes)) else { return Vec::new() };
    let mut entries = Vec::new();
    for i in 0..archive.len() {
        let mut entry = archive.by_index(i).expect("an entry");
        let mut content = Vec::new();
        // The entry that unpacks to megabytes is broken from its beginning.
        entry.by_ref().take(20_000).read_to_end(&mut content).expect("content");
        entries.push((entry.name().expect("a name").into_owned(), content));
    }
    entries
}

/// Case number `case`: a vector with one to six changes; of an archive half the time a changed entry
/// under a right checksum.
fn broken(seeds: &[Seed], case: u64) -> Vec<u8> {
    let rng = &mut random::stream(13, "broken weights", case);
    let seed = &seeds[rng.random_range(0..seeds.len())];
    if seed.entries.is_empty() || rng.random_bool(0.4) {
        let mut bytes = seed.bytes.clone();
        change(&mut bytes, seeds, rng);
        return bytes;
    }
    let mut entries = seed.entries.clone();
    let pickled = entries.iter().position(|(name, _)| name.ends_with(".pkl") || name.ends_with(".pth"));
    let changed = pickled.filter(|_| rng.random_bool(0.8)).unwrap_or_else(|| rng.random_range(0..entries.len()));
    change(&mut entries[changed].1, seeds, rng);
    let method = if rng.random_bool(0.3) { CompressionMethod::Deflated } else { CompressionMethod::Stored };
    archive(&entries, method)
}

fn archive(entries: &[(String, Vec<u8>)], method: CompressionMethod) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, content) in entries {
        writer.start_file(name.as_str(), SimpleFileOptions::default().compression_method(method)).expect("an entry");
        writer.write_all(content).expect("content");
    }
    writer.finish().expect("an archive").into_inner()
}

fn change(bytes: &mut Vec<u8>, seeds: &[Seed], rng: &mut impl Rng) {
    for _ in 0..rng.random_range(1..=6) {
        let at = rng.random_range(0..=bytes.len());
        let length = rng.random_range(1..=64).min(bytes.len() - at);
        match rng.random_range(0..8) {
            0 | 1 if at < bytes.len() => bytes[at] ^= 1 << rng.random_range(0..8),
            2 if at < bytes.len() => bytes[at] = rng.random(),
            3 => {
                let width = [1, 2, 4, 8][rng.random_range(0..4)].min(length);
                let number = NUMBERS[rng.random_range(0..NUMBERS.len())].to_le_bytes();
                bytes[at..at + width].copy_from_slice(&number[..width]);
            }
            4 if rng.random_bool(0.2) => bytes.truncate(at),
            5 => {
                let chunk = bytes[at..at + length].to_vec();
                let to = rng.random_range(0..=bytes.len());
                bytes.splice(to..to, chunk.repeat(rng.random_range(1..=4)));
            }
            6 => drop(bytes.drain(at..at + length)),
            7 => {
                let other = &seeds[rng.random_range(0..seeds.len())].bytes;
                let from = rng.random_range(0..other.len());
                let end = (from + rng.random_range(1..=200)).min(other.len());
                bytes.splice(at..at + length, other[from..end].iter().copied());
            }
            _ => {}
        }
    }
}
