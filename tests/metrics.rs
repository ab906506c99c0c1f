//! Metrics over pixels, map after map: against definitions that are as naive as can be.

use hotad_engine::data::Item;
use hotad_engine::data::loco::Saturations;
use hotad_engine::data::picture::Picture;
use hotad_engine::metrics::bootstrap::Bootstrap;
use hotad_engine::metrics::overlap::Overlap;
use hotad_engine::metrics::ranking::Ranking;
use hotad_engine::metrics::region::{CurvePoint, DefectRegion, area, components};
use hotad_engine::metrics::sketch::{Pool, Sketch, best_mean_dice};
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
    let mut regions: Vec<(usize, DefectRegion)> = Vec::new();
    for (i, (map, defect)) in maps.iter().enumerate() {
        let mut own = components(defect, 8);
        own.iter_mut().for_each(|r| r.saturation = (r.pixels.len() as f64 * 0.6).max(0.5));
        tally.add(map, defect, &own);
        regions.extend(own.into_iter().map(|r| (i, r)));
    }
    assert_eq!(tally.regions() as usize, regions.len());
    let normal: Vec<f32> =
        maps.iter().flat_map(|(m, d)| m.iter().zip(d).filter(|(_, d)| !**d).map(|(v, _)| *v)).collect();
    let bends: Vec<CurvePoint> = tally.bends().expect("regions and normal pixels").collect();
    let curve: Vec<CurvePoint> = tally.curve().expect("regions and normal pixels").collect();
    assert!((area(curve.iter().copied(), 0.4) - area(bends.iter().copied(), 0.4)).abs() < 1e-12);
    for point in curve.into_iter().chain(bends).filter(|p| p.threshold < f32::INFINITY) {
        let above = |v: f32| v >= point.threshold;
        let fpr = normal.iter().filter(|v| above(**v)).count() as f64 / normal.len() as f64;
        let one = |(i, r): &(usize, DefectRegion)| {
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
    // A limit between two points, and one that every entry of the coarse tally passes.
    for limit in [0.3, 1.0] {
        let [a, b] = [&mut exact, &mut coarse].map(|t| area(t.bends().expect("regions"), limit));
        let bound = coarse.overlap_bound(limit);
        assert!(bound > 0.0 && bound < 2e-3 && (a - b).abs() <= bound, "AU-PRO {a} and {b}, bound {bound}");
        assert_eq!(exact.overlap_bound(limit), 0.0);
    }
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

#[test]
fn the_best_threshold_is_that_of_every_one_tried() {
    let maps = maps(6, 9);
    // All bits: scores are told apart exactly.
    let sketches: Vec<Sketch> = maps.iter().map(|(map, defect)| Sketch::new(map, defect, &[], 32)).collect();
    let mean = |threshold: f32| {
        let dice = |(map, defect): &(Vec<f32>, Vec<bool>)| {
            Overlap::count(map.iter().map(|v| *v > threshold).zip(defect.iter().copied())).dice()
        };
        maps.iter().map(dice).sum::<f64>() / maps.len() as f64
    };
    let (dice, threshold) = best_mean_dice(&sketches).expect("defective maps");
    assert!((mean(threshold) - dice).abs() < 1e-12, "{dice} is said, {} is so", mean(threshold));
    let tried = maps.iter().flat_map(|(map, _)| map).map(|v| mean(v.next_down())).fold(0.0, f64::max);
    assert!((dice - tried).abs() < 1e-12, "{dice}, best of all {tried}");
    let good: Vec<Sketch> = maps.iter().map(|(map, _)| Sketch::new(map, &vec![false; map.len()], &[], 32)).collect();
    assert_eq!(best_mean_dice(&good), None);
}

#[test]
fn pooled_sketches_give_the_metrics_of_repeated_maps() {
    let maps = maps(5, 9);
    let sketch = |(map, defect): &(Vec<f32>, Vec<bool>)| Sketch::new(map, defect, &components(defect, 9), 32);
    let sketches: Vec<Sketch> = maps.iter().map(sketch).collect();
    let times = [2, 0, 1, 3, 1];
    let pooled = Pool::new(&sketches).metrics(&times, 0.3);
    let mut tally = Tally::default();
    for ((map, defect), times) in maps.iter().zip(times) {
        (0..times).for_each(|_| tally.add(map, defect, &components(defect, 9)));
    }
    let close = |a: Option<f64>, b: Option<f64>| (a.expect("a value") - b.expect("a value")).abs() < 1e-12;
    let ranking = tally.ranking();
    assert!(close(pooled.auroc, ranking.auroc()) && close(pooled.ap, ranking.average_precision()));
    assert!(close(pooled.dice_max, ranking.f1_max().map(|(f, _)| f)));
    assert!(close(pooled.aupro, tally.bends().map(|c| area(c, 0.3))));
    let limits = [0.01, 0.3, 1.0];
    for (limit, overlap) in limits.into_iter().zip(Pool::new(&sketches).overlaps(&times, limits)) {
        assert!(close(overlap, tally.bends().map(|c| area(c, limit))), "up to {limit}");
    }
    let repeated = sketches.iter().zip(times).flat_map(|(sketch, n)| vec![sketch.clone(); n as usize]);
    let best = best_mean_dice(&repeated.collect::<Vec<_>>()).map(|(dice, _)| dice);
    assert!(close(pooled.best_mean_dice, best), "{:?} {best:?}", pooled.best_mean_dice);
}

#[test]
fn a_repeated_score_counts_as_often() {
    let scores = [(0.3, true, 2), (0.9, false, 0), (0.2, false, 3), (0.4, false, 1), (0.5, true, 1)];
    let weighted = Ranking::weighted(scores);
    let repeated = Ranking::new(scores.into_iter().flat_map(|(s, p, n)| vec![(s, p); n as usize]));
    assert_eq!(weighted.points(), repeated.points());
}

/// Share of samples whose interval covers the true area under the curve, when each part has several photos that share most of their score.
fn coverage(by_part: bool) -> f64 {
    let (parts, photos, samples) = (30, 4, 500);
    // P(a > b) of normal scores one unit of deviation apart.
    let truth = 0.760_249_9;
    let covered = (0..samples).filter(|sample| {
        let mut rng = random::stream(11, "parts", *sample);
        let mut scores = Vec::new();
        for part in 0..2 * parts {
            let own = random::normal(&mut rng);
            let defective = part >= parts;
            for _ in 0..photos {
                let score = 0.95_f32.sqrt() * own + 0.05_f32.sqrt() * random::normal(&mut rng);
                scores.push((score + f32::from(u8::from(defective)), defective, part));
            }
        }
        let groups: Vec<usize> = (0..scores.len()).map(|i| if by_part { scores[i].2 } else { i }).collect();
        let bootstrap = Bootstrap::new(&groups, scores.iter().map(|s| s.1), *sample);
        let auroc = |times: &[u32]| [Ranking::weighted(scores.iter().zip(times).map(|(s, t)| (s.0, s.1, *t))).auroc()];
        let [interval] = bootstrap.intervals(auroc);
        let [low, high] = interval.expect("both classes in every resample");
        low <= truth && truth <= high
    });
    covered.count() as f64 / samples as f64
}

#[test]
fn intervals_over_parts_cover_what_intervals_over_photos_miss() {
    let (parts, photos) = (coverage(true), coverage(false));
    assert!(parts > 0.88, "{parts} of intervals over parts cover the truth");
    assert!(photos < 0.8, "{photos} of intervals over photos cover the truth, as if photos were independent");
}
