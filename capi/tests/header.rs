//! The header is what cbindgen makes of the sources. `HOTAD_WRITE_HEADER=1` writes it anew.

use std::path::Path;

#[test]
fn the_header_is_that_of_the_sources() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let config = cbindgen::Config::from_file(here.join("cbindgen.toml")).expect("cbindgen.toml");
    let sources = ["status.rs", "types.rs", "lib.rs"].map(|file| here.join("src").join(file));
    let mut builder = cbindgen::Builder::new().with_config(config);
    for source in sources {
        builder = builder.with_src(source);
    }
    let mut made = Vec::new();
    builder.generate().expect("the sources are read").write(&mut made);
    let path = here.join("include/hotad.h");
    if std::env::var("HOTAD_WRITE_HEADER").is_ok_and(|v| v == "1") {
        std::fs::write(&path, &made).expect("written");
    }
    let there = std::fs::read(&path).expect("include/hotad.h");
    assert!(there == made, "include/hotad.h is not that of the sources; write it with HOTAD_WRITE_HEADER=1");
}

#[test]
fn every_function_is_declared_once() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("include/hotad.h");
    let header = std::fs::read_to_string(path).expect("include/hotad.h");
    let code = header.lines().filter(|line| !line.starts_with([' ', '#', '/']));
    let mut names: Vec<&str> = code.filter_map(|line| line.split_once('(')?.0.split([' ', '*']).next_back()).collect();
    names.sort_unstable();
    assert!(names.contains(&"hotad_last_error") && names.contains(&"hotad_inspect"), "{names:?}");
    assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "{names:?}");
}
