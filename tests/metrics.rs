//! Metrics over pixels, map after map: against definitions that are as naive as can be.

use hotad_engine::data::Item;
use hotad_engine::data::loco::Saturations;
use hotad_engine::data::picture::Picture;
use hotad_engine::metrics::region::{Region, area, components};
use hotad_engine::metrics::tally::Tally;
use hotad_engine::random;
use rand::Rng;

/// Maps with ties, negative scores and both zeros; masks of a few blobs.
fn maps(images: usize, side: usize) -> Vec<(Vec<f32>, Vec<bool>)> {
    let mut rng = random::stream(5, "maps", 0);
    (0..images)
        .map(|_| {
            let (y, x) = (rng.random_range(0..side - 3), rng.random_range(0..side - 3));
            let defect: Vec<bool> = (0..side * side)
                .map(|i| (y..y + 3).contains(&(i / side)) && (x..x + 2).contains(&(i % side)) || i == side * side - 1)
                .collect();
            let score = |d: &bool| {
                let score = rng.random_range(-6..6) as f32 + if *d { 4.0 } else { 0.0 };
                // Both zeros are one score.
                if score == 0.0 && rng.random() { -0.0 } else { score / 4.0 }
            };
            (defect.iter().map(score).collect(), defect)
        })
        .collect()
}

#[test]
fn pixels_are_ranked_as_by_all_pairs() {
    let maps = maps(5, 9);
    let mut tally = Tally::default();
    maps.iter().for_each(|(map, defect)| tally.add(map, defect, &components(defect, 9)));
    let all: Vec<(f32, bool)> = maps.iter().flat_map(|(m, d)| m.iter().copied().zip(d.iter().copied())).collect();
    let (mut won, mut pairs) = (0.0, 0.0);
    for (a, _) in all.iter().filter(|(_, d)| *d) {
        for (b, _) in all.iter().filter(|(_, d)| !*d) {
            won += if a > b {
                1.0
            } else if a == b {
                0.5
            } else {
                0.0
            };
            pairs += 1.0;
        }
    }
    let auroc = tally.ranking().auroc().expect("both classes");
    assert!((auroc - won / pairs).abs() < 1e-12, "{auroc}, {} by pairs", won / pairs);
    assert!(tally.is_exact() && tally.auroc_bound() == 0.0);
}

#[test]
fn overlap_saturates_region_by_region() {
    let maps = maps(4, 8);
    let mut tally = Tally::default();
    let mut regions: Vec<(usize, Region)> = Vec::new();
    for (i, (map, defect)) in maps.iter().enumerate() {
        let mut own = components(defect, 8);
        own.iter_mut().for_each(|r| r.saturation = (r.pixels.len() as f64 * 0.6).max(0.5));
        tally.add(map, defect, &own);
        regions.extend(own.into_iter().map(|r| (i, r)));
    }
    assert_eq!(tally.regions() as usize, regions.len());
    let normal: Vec<f32> =
        maps.iter().flat_map(|(m, d)| m.iter().zip(d).filter(|(_, d)| !**d).map(|(v, _)| *v)).collect();
    for point in tally.curve().expect("regions and normal pixels").skip(1) {
        let above = |v: f32| v >= point.threshold;
        let fpr = normal.iter().filter(|v| above(**v)).count() as f64 / normal.len() as f64;
        let one = |(i, r): &(usize, Region)| {
            let found = r.pixels.iter().filter(|p| above(maps[*i].0[**p as usize])).count();
            (found as f64 / r.saturation).min(1.0)
        };
        let overlap = regions.iter().map(one).sum::<f64>() / regions.len() as f64;
        assert!(
            (point.fpr - fpr).abs() < 1e-12 && (point.overlap - overlap).abs() < 1e-12,
            "{point:?}: {fpr} {overlap}"
        );
    }
}

#[test]
fn many_maps_in_bounded_memory_stay_within_the_stated_bound() {
    let (side, images) = (256, 24);
    let mut rng = random::stream(6, "many maps", 0);
    let (mut exact, mut coarse) = (Tally::default(), Tally::with_limit(5000));
    for _ in 0..images {
        let defect: Vec<bool> = (0..side * side).map(|i| i % side < 20 && i / side < 20).collect();
        let score = |d: &bool| random::normal(&mut rng) + if *d { 1.5 } else { 0.0 };
        let map: Vec<f32> = defect.iter().map(score).collect();
        let regions = components(&defect, side);
        [&mut exact, &mut coarse].into_iter().for_each(|t| t.add(&map, &defect, &regions));
    }
    let (a, b) = (exact.ranking(), coarse.ranking());
    assert!(exact.is_exact() && !coarse.is_exact());
    assert!(b.points().len() <= 5000 && a.points().len() > 100_000);
    let (a, b) = (a.auroc().expect("both"), b.auroc().expect("both"));
    let bound = coarse.auroc_bound();
    assert!(bound > 0.0 && bound < 1e-3 && (a - b).abs() <= bound, "{a} and {b}, bound {bound}");
    let [a, b] = [&mut exact, &mut coarse].map(|t| area(t.curve().expect("regions"), 0.3));
    assert!((a - b).abs() < 1e-3, "AU-PRO {a} and {b}");
}

/// A LOCO data set's masks of one image.
fn masks(root: &std::path::Path, values: &[(&str, Vec<u8>)]) -> Item {
    let masks = values
        .iter()
        .map(|(name, v)| {
            let path = root.join(name);
            let values = v.iter().map(|v| f32::from(*v) / 255.0).collect();
            Picture { height: 4, width: 5, channels: 1, values }.write_png(&path).expect("a picture");
            path
        })
        .collect();
    Item { path: root.join("000.png"), kind: "logical_anomalies".into(), defective: true, masks }
}

#[test]
fn saturations_are_looked_up_by_the_value_of_a_mask() {
    let dir = tempfile::tempdir().expect("a folder");
    let config = r#"[
        {"defect_name": "a", "pixel_value": 255, "saturation_threshold": 3.0, "relative_saturation": false},
        {"defect_name": "b", "pixel_value": 250, "saturation_threshold": 0.5, "relative_saturation": true}]"#;
    std::fs::write(dir.path().join("defects_config.json"), config).expect("a file");
    let saturations = Saturations::read(dir.path()).expect("a configuration");
    let of = |n: usize, value: u8| (0..20).map(|i| if i < n { value } else { 0 }).collect::<Vec<u8>>();
    let regions = |name: &str, v: Vec<u8>| {
        saturations.regions(&masks(dir.path(), &[(name, v)]), (4, 5), &|m| m).map(|r| r.first().map(|r| r.saturation))
    };
    assert_eq!(regions("large.png", of(7, 255)).expect("known"), Some(3.0));
    assert_eq!(regions("small.png", of(2, 255)).expect("known"), Some(2.0));
    assert_eq!(regions("half.png", of(7, 250)).expect("known"), Some(3.0));
    assert_eq!(regions("empty.png", of(0, 250)).expect("known"), None);
    let unknown = regions("unknown.png", of(3, 17)).expect_err("17 is not there").to_string();
    assert!(unknown.contains("unknown.png") && unknown.contains("17"), "{unknown}");
    let mut mixed = of(3, 255);
    mixed[5] = 250;
    let mixed = regions("mixed.png", mixed).expect_err("two values").to_string();
    assert!(mixed.contains("mixed.png") && mixed.contains("250"), "{mixed}");
    let missing = Saturations::read(&dir.path().join("nowhere")).expect_err("no file").to_string();
    assert!(missing.contains("defects_config.json") && missing.contains("missing"), "{missing}");
}
