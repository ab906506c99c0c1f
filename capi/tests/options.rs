//! Options and limits that cannot be: `HOTAD_ERROR_ARGUMENT`, and words that begin with the name of the option.

use std::ffi::{CStr, c_char};

use hotad::hotad_status::*;
use hotad::*;
use support::{options, shipped, words};

mod support;

/// The status of opening a model, and the words where it is not opened.
fn open(path: &CStr, options: &hotad_options) -> (hotad_status, String) {
    let mut inspector = 7;
    // SAFETY: texts end with zeros, the structure is as large as it says.
    let status = unsafe { hotad_open(path.as_ptr(), options, &mut inspector) };
    if status == HOTAD_OK {
        hotad_close(inspector);
        return (status, String::new());
    }
    assert_eq!(inspector, 0);
    (status, words())
}

#[test]
fn an_option_that_cannot_be_is_an_argument_and_named_first() {
    let with = |change: fn(&mut hotad_options, *const c_char), text: &CStr| {
        let mut options = options();
        change(&mut options, text.as_ptr());
        open(&shipped(), &options)
    };
    let (device, precision) = (|o: &mut hotad_options, t| o.device = t, |o: &mut hotad_options, t| o.precision = t);
    let (roi, key) = (|o: &mut hotad_options, t| o.roi = t, |o: &mut hotad_options, t| o.verify_key = t);
    type Change = fn(&mut hotad_options, *const c_char);
    let cases: [(&str, Change, &CStr, &str); 11] = [
        ("options.device: ", device, c"tpu", "\"tpu\": use auto"),
        ("options.device: ", device, c"cuda:x", "\"cuda:x\": use auto"),
        ("options.device: ", device, c"", "use auto"),
        ("options.precision: ", precision, c"f8", "\"f8\": use f32"),
        ("options.roi: ", roi, c"box:1", "\"box:1\"; use box:"),
        ("options.roi: ", roi, c"mask:nowhere.png", "nowhere.png"),
        ("options.roi: ", roi, c"mask:Cargo.toml", "Cargo.toml"),
        ("options.roi: ", roi, c"mask:", "names no file"),
        ("options.verify_key: ", key, c"nowhere.pub", "nowhere.pub"),
        ("options.verify_key: ", key, c"Cargo.toml", "no public Ed25519 key"),
        ("options.verify_key: ", key, c"", "empty"),
    ];
    for (name, change, text, said) in cases {
        let (status, words) = with(change, text);
        assert_eq!(status, HOTAD_ERROR_ARGUMENT, "{text:?}: {words}");
        assert!(words.starts_with(name) && words.contains(said), "{text:?}: {words}");
    }
}

#[test]
fn a_device_that_is_not_there_is_no_wrong_argument() {
    let (status, words) = open(&shipped(), &hotad_options { device: c"cuda:4321".as_ptr(), ..options() });
    assert_eq!(status, HOTAD_ERROR_DEVICE, "{words}");
}

#[test]
fn an_empty_path_is_called_empty() {
    let (status, words) = open(c"", &options());
    assert_eq!((status, words.as_str()), (HOTAD_ERROR_ARGUMENT, "path: the path is empty; name a file"));
}

/// Of the whole process, so that no other test of this file may depend on the limit.
#[test]
fn the_limit_of_megapixels_is_raised_and_lowered() {
    let mut inspector = 0;
    // SAFETY: texts end with zeros, the structure is as large as it says.
    assert_eq!(unsafe { hotad_open(shipped().as_ptr(), &options(), &mut inspector) }, HOTAD_OK, "{}", words());
    let pixels = vec![0u8; 2_000_000];
    let frame = hotad_frame {
        size: size_of::<hotad_frame>(),
        data: pixels.as_ptr(),
        data_size: pixels.len(),
        width: 2000,
        height: 1000,
        stride: 2000,
        format: hotad_format::HOTAD_GRAY8 as u32,
        waited_ns: 0,
    };
    let inspect = || {
        let mut told = hotad_verdict { size: size_of::<hotad_verdict>(), ..hotad_verdict::default() };
        // SAFETY: as large as they say.
        unsafe { hotad_inspect(inspector, &frame, &mut told) }
    };
    assert_eq!(hotad_set_max_megapixels(1), HOTAD_OK);
    assert_eq!(inspect(), HOTAD_ERROR_FRAME);
    let refused = words();
    assert!(refused.contains("more than 1 megapixels; raise the limit") && !refused.contains("--"), "{refused}");
    assert_eq!(hotad_set_max_megapixels(2), HOTAD_OK);
    assert_eq!(inspect(), HOTAD_OK, "{}", words());
    for beyond in [0, 1_000_001, u32::MAX] {
        assert_eq!(hotad_set_max_megapixels(beyond), HOTAD_ERROR_ARGUMENT);
        assert!(words().starts_with(&format!("max_megapixels: {beyond} is out of range")), "{}", words());
    }
    assert_eq!(inspect(), HOTAD_OK, "a refused limit changes nothing");
    assert_eq!(hotad_set_max_megapixels(100), HOTAD_OK);
    assert_eq!(hotad_close(inspector), HOTAD_OK);
}
