//! The examples in C and C++, compiled and run: what they print is what `hotad` prints. With valgrind no byte
//! is read or written that is not theirs. `HOTAD_REQUIRE_CC=1` allows no skip.
#![cfg(unix)]

use std::path::{Path, PathBuf};
use std::process::Command;

use inspector::{Format, Frame, Inspector, Options, Verdict};

const WIDTH: usize = 70;
const HEIGHT: usize = 50;

fn here() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The folder of the libraries that were built with this test.
fn libraries() -> PathBuf {
    let executable = std::env::current_exe().expect("this test has a path");
    executable.parent().expect("a folder").to_path_buf()
}

/// Whether a program is there; a skip is printed, or refused.
fn has(program: &str) -> bool {
    let there = Command::new(program).arg("--version").output().is_ok_and(|o| o.status.success());
    assert!(there || !std::env::var("HOTAD_REQUIRE_CC").is_ok_and(|v| v == "1"), "{program} is missing");
    if !there {
        eprintln!("skipped: {program} is missing");
    }
    there
}

/// Runs a command that has to succeed, or to end with one of the exit codes; returns what it prints.
fn run(command: &mut Command, codes: &[i32]) -> String {
    let output = command.output().expect("the program runs");
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let code = output.status.code();
    assert!(code.is_some_and(|code| codes.contains(&code)), "{command:?}: {code:?}\n{stdout}{stderr}");
    stdout.into_owned()
}

/// Installs the libraries of this build as the docs say, below a folder; returns the flags that pkg-config gives for them.
fn install(folder: &Path) -> Vec<String> {
    let (built, prefix) = (folder.join("built"), folder.join("prefix"));
    std::fs::create_dir_all(&built).expect("a folder");
    std::os::unix::fs::symlink(libraries(), built.join("release")).expect("a link");
    run(Command::new(here().join("install")).env("CARGO_TARGET_DIR", &built).arg(&prefix), &[0]);
    let mut flags = Command::new("pkg-config");
    flags.env("PKG_CONFIG_PATH", prefix.join("lib/pkgconfig")).args(["--cflags", "--libs", "hotad"]);
    let flags = run(&mut flags, &[0]);
    let rpath = format!("-Wl,-rpath,{}", prefix.join("lib").display());
    flags.split_whitespace().map(String::from).chain([rpath]).collect()
}

fn compile(compiler: &str, standard: &str, source: &str, installed: &[String], out: &Path) {
    let mut command = Command::new(compiler);
    command.args([standard, "-Wall", "-Wextra", "-Werror", "-O1", "-g"]);
    command.arg(here().join("examples").join(source)).args(installed).arg("-o").arg(out);
    run(&mut command, &[0]);
}

fn pixels() -> Vec<u8> {
    (0..WIDTH * HEIGHT).map(|i| ((i as u32).wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

fn model() -> PathBuf {
    here().join("../weights/plate.safetensors")
}

/// What the C example is to print.
fn expected() -> Vec<String> {
    let mut inspector =
        Inspector::open(&model(), Options { device: "cpu".into(), ..Options::default() }).expect("it opens");
    let pixels = pixels();
    let frame = Frame::new(&pixels, HEIGHT, WIDTH, WIDTH, Format::Gray8).expect("a frame");
    let mut verdict = Verdict::default();
    inspector.inspect(&frame, &mut verdict).expect("a verdict");
    let Verdict { label, score, image_threshold, regions, .. } = &verdict;
    let regions = &regions[..regions.len().min(8)];
    let line = format!("{label} {} {} {}", score.to_bits(), image_threshold.to_bits(), regions.len());
    let region = |r: &inspector::Region| format!("{} {} {} {} {}", r.left, r.top, r.width, r.height, r.peak.to_bits());
    [line.clone(), line.clone(), line].into_iter().chain(regions.iter().map(region)).collect()
}

/// What it prints, numbers by their bits.
fn parsed(printed: &str) -> Vec<String> {
    let bits = |text: &str| text.parse::<f32>().expect("a number").to_bits();
    let line = |line: &str| match line.split(' ').collect::<Vec<_>>()[..] {
        ["region", left, top, width, height, _, peak] => format!("{left} {top} {width} {height} {}", bits(peak)),
        [label, _, score, _, threshold, _, regions] => format!("{label} {} {} {regions}", bits(score), bits(threshold)),
        _ => panic!("{line}"),
    };
    printed.lines().map(line).collect()
}

#[test]
fn the_c_example_prints_the_verdicts_of_the_library() {
    if !has("cc") || !has("pkg-config") {
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    let (program, frame) = (dir.path().join("inspect"), dir.path().join("frame.pgm"));
    std::fs::write(&frame, [format!("P5 {WIDTH} {HEIGHT} 255\n").as_bytes(), &pixels()].concat()).expect("written");
    compile("cc", "-std=c11", "inspect.c", &install(dir.path()), &program);
    let printed = run(Command::new(&program).arg(model()).arg(&frame), &[0, 1]);
    assert_eq!(parsed(&printed), expected());
    let wrong = Command::new(&program).arg("nowhere").arg(&frame).output().expect("it runs");
    assert_eq!(wrong.status.code(), Some(2));
    let said = String::from_utf8_lossy(&wrong.stderr).into_owned();
    assert!(said.contains("hotad_open: nowhere"), "{said}");
    if !has("valgrind") {
        return;
    }
    // Instructions that valgrind knows.
    let mut checked = Command::new("valgrind");
    checked.env("HOTAD_ISA", "avx2").args(["-q", "--error-exitcode=99"]).arg(&program).arg(model()).arg(&frame);
    run(&mut checked, &[0, 1]);
}

#[test]
fn the_cpp_example_draws_regions() {
    if !has("c++") || !has("pkg-config") {
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    let [program, frame, drawn] = ["draw", "frame.pgm", "drawn.ppm"].map(|name| dir.path().join(name));
    std::fs::write(&frame, [format!("P5 {WIDTH} {HEIGHT} 255\n").as_bytes(), &pixels()].concat()).expect("written");
    compile("c++", "-std=c++17", "draw.cpp", &install(dir.path()), &program);
    let printed = run(Command::new(&program).arg(model()).arg(&frame).arg(&drawn), &[0]);
    assert!(printed.contains("regions, score "), "{printed}");
    let file = std::fs::read(&drawn).expect("a picture");
    let header = format!("P6 {WIDTH} {HEIGHT} 255\n");
    assert!(file.starts_with(header.as_bytes()) && file.len() == header.len() + 3 * WIDTH * HEIGHT);
    let yellow = file[header.len()..].chunks(3).any(|p| p == [255, 255, 0]);
    assert_eq!(yellow, !printed.starts_with("0 regions"), "{printed}");
}
