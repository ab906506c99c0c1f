//! Regions that cannot be are refused in one line: as text, in a model file, on frames that they do not lie in.

use hotad::{Format, Frame, Inspector, Options, Roi, Verdict};
use hotad_engine::container;
use hotad_engine::data::picture::Picture;
use serde_json::{Value, json};

use crate::common::{hotad, refused, text};
use crate::{BOX, data_in_frames, trained_within};

const SHIPPED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/weights/plate.safetensors");

#[test]
fn text_of_no_region_is_refused() {
    let cases = [
        ("", "box:LEFT,TOP,WIDTH,HEIGHT"),
        ("circle:1,2,3", "box:LEFT,TOP,WIDTH,HEIGHT"),
        ("box:1,2,3", "box:LEFT,TOP,WIDTH,HEIGHT"),
        ("box:1,2,3,-4", "box:LEFT,TOP,WIDTH,HEIGHT"),
        ("box:1,2,3,4;", "box:LEFT,TOP,WIDTH,HEIGHT"),
        ("box:1,2,0,4", "0 x 4 pixels"),
        ("box:99999,2,2,4", "100001 x 6"),
        ("box:4294967295,0,4294967295,1", "100000 is the most"),
        ("polygon:1,2,3,4", "2 corners"),
        ("polygon:1,2,3,4,5", "box:LEFT,TOP,WIDTH,HEIGHT"),
        ("polygon:1,2,3,NaN,5,6", "coordinate NaN"),
        ("polygon:1,2,3,inf,5,6", "coordinate inf"),
        ("polygon:1,2,3,-1,5,6", "coordinate -1"),
        ("polygon:1,1,1.2,1,1,1.2", "no pixel is inside"),
    ];
    for (roi, words) in cases {
        let error = roi.parse::<Roi>().expect_err(roi).to_string();
        assert!(error.contains("region of interest") && error.contains(words), "{roi}: {error}");
        refused(&["roi", SHIPPED, "--set", roi, "--out", "/nowhere/m"], &["region of interest", words]);
    }
    let many = vec!["box:1,1,2,2"; 3000].join(";");
    assert!(many.parse::<Roi>().expect_err("too many").to_string().contains("6000 corners"));
    let zigzag: Vec<String> = (0..4000).map(|i| format!("{},{}", 4 * i, if i % 2 == 0 { 0 } else { 90_000 })).collect();
    let scattered = format!("polygon:{}", zigzag.join(",")).parse::<Roi>().expect_err("too scattered");
    assert!(scattered.to_string().contains("use a simpler one"), "{scattered}");
}

#[test]
fn masks_of_nothing_beside_others_or_missing_are_refused() {
    let dir = tempfile::tempdir().expect("a folder");
    let (empty, file) = (dir.path().join("empty.png"), dir.path().join("mask.png"));
    let picture = |v: f32| Picture { height: 8, width: 9, channels: 1, values: vec![v; 72] };
    picture(0.0).write_png(&empty).expect("written");
    picture(1.0).write_png(&file).expect("written");
    let mask = |path| format!("mask:{}", text(path));
    let set = |roi: &[&str]| {
        let regions: Vec<&str> = roi.iter().flat_map(|roi| ["--set", roi]).collect();
        [&["roi", SHIPPED, "--out", "/nowhere/m"][..], &regions].concat().into_iter().map(String::from).collect()
    };
    let refused = |args: Vec<String>, words: &[&str]| {
        refused(&args.iter().map(String::as_str).collect::<Vec<_>>(), words);
    };
    refused(set(&[&mask(&empty)]), &["empty.png", "no pixel is inside"]);
    refused(set(&["mask:/nowhere/mask.png"]), &["/nowhere/mask.png"]);
    refused(set(&[&mask(&file), BOX]), &["a mask stands alone"]);
    refused(set(&[BOX, &mask(&file)]), &["a mask stands alone"]);
    let roi: Roi = mask(&file).parse().expect("a region");
    let error = roi.check(9, 8).expect_err("another size").to_string();
    assert!(error.contains("8 x 9 pixels") && error.contains("9 x 8"), "{error}");
}

#[test]
fn frames_that_it_does_not_lie_in_are_refused() {
    let dir = tempfile::tempdir().expect("a folder");
    let dir = dir.path();
    data_in_frames(dir);
    let model = trained_within(dir, BOX);
    let small = dir.join("data/test/good/024.png");
    let args = ["score", "--model", text(&model), text(&small), "-q"];
    refused(&args, &["024.png", "the frame has 40 x 40 pixels", "reaches to 49 x 46"]);
    // The other images are scored.
    let frame = dir.join("frames/test/good/024.png");
    let both = hotad(&[&args[..], &[text(&frame), "--on-broken", "skip"]].concat());
    assert!(both.status.success() && String::from_utf8_lossy(&both.stdout).contains("\"score\""));
    let data = dir.join("data");
    refused(&["eval", "--model", text(&model), "--data", text(&data), "-q"], &["reaches to 49 x 46"]);
    refused(&["calibrate", text(&model), "--data", text(&data), "-q"], &["reaches to 49 x 46"]);
    let out = dir.join("new.safetensors");
    let train = ["train", "paedid", "--data", text(&data), "--out", text(&out), "-q", "--roi"];
    refused(&[&train[..], &[BOX]].concat(), &["000.png", "reaches to 49 x 46"]);
    let options = Options { device: "cpu".into(), ..Options::default() };
    let mut inspector = Inspector::open(&model, options).expect("a model");
    let pixels = vec![0; 40 * 40];
    let frame = Frame::new(&pixels, 40, 40, 40, Format::Gray8).expect("a frame");
    let error = inspector.inspect(&frame, &mut Verdict::default()).expect_err("too small").to_string();
    assert!(error.contains("reaches to 49 x 46") && !error.contains('\n'), "{error}");
}

#[test]
fn a_header_with_a_broken_region_is_refused() {
    let dir = tempfile::tempdir().expect("a folder");
    let model = dir.path().join("broken.safetensors");
    let polygon = |corners: Value| json!({ "shapes": [{ "polygon": corners }] });
    let corner = |v: Value| polygon(json!([[0.0, 0.0], [9.0, v], [3.0, 8.0]]));
    let mask = |runs: Value| json!({ "mask": { "width": 4, "height": 3, "runs": runs } });
    let broken = [
        json!("box:1,2,3,4"),
        json!({ "shapes": [] }),
        json!({ "shapes": [{ "box": { "left": 1, "top": 2, "width": 0, "height": 4 } }] }),
        json!({ "shapes": [{ "box": { "left": 1, "top": 2, "width": 4_000_000_000u32, "height": 4 } }] }),
        json!({ "shapes": [{ "box": { "left": -1, "top": 2, "width": 3, "height": 4 } }] }),
        polygon(json!([[0.0, 0.0], [9.0, 9.0]])),
        corner(Value::Null),
        corner(json!(1e300)),
        corner(json!(-1.0)),
        polygon(json!(vec![[1.0, 2.0]; 5000])),
        mask(json!([12])),
        mask(json!([3, 4])),
        mask(json!([3, 0, 9])),
        mask(json!([3, 4_294_967_295u32, 4_294_967_295u32])),
        json!({ "mask": { "width": 0, "height": 3, "runs": [] } }),
        json!({ "mask": { "width": 4_000_000, "height": 1, "runs": [0, 4_000_000] } }),
    ];
    for roi in broken {
        let mut contents = container::read(SHIPPED.as_ref(), "model").expect("the shipped model");
        contents.meta["roi"] = roi.clone();
        container::write(&model, &contents).expect("written");
        refused(&["info", text(&model)], &["broken.safetensors", "damaged header"]);
        refused(&["score", "--model", text(&model), SHIPPED], &["broken.safetensors", "damaged header"]);
    }
}
