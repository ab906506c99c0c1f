//! Regions of a verdict against a flood fill over the map that the verdict holds.

use std::collections::HashSet;

use hotad::{Format, Frame, MapSize, Options, Values, Verdict};

use crate::{noise, shipped};

/// Pixels of the components above a threshold, by repeated merging of neighbours.
fn naive(map: &[f32], width: usize, threshold: f32) -> Vec<HashSet<(i64, i64)>> {
    let above = (0..map.len()).filter(|i| map[*i] > threshold);
    let mut components: Vec<HashSet<(i64, i64)>> = Vec::new();
    for i in above {
        let (x, y) = ((i % width) as i64, (i / width) as i64);
        let near = |c: &HashSet<(i64, i64)>| c.iter().any(|(u, v)| (u - x).abs() <= 1 && (v - y).abs() <= 1);
        let (touching, apart): (Vec<_>, Vec<_>) = components.into_iter().partition(near);
        components = apart;
        let mut own: HashSet<(i64, i64)> = touching.into_iter().flatten().collect();
        own.insert((x, y));
        components.push(own);
    }
    components
}

#[test]
fn regions_are_the_components_of_the_map() {
    let mut inspector = shipped(Options { map: MapSize::Model, regions: 10_000, ..Options::default() });
    let spec = inspector.info().image;
    // Twice as many rows as the map has, three times as many columns.
    let (height, width) = (2 * spec.height, 3 * spec.width);
    let bytes = noise(height, width, 1);
    let frame = Frame::new(&bytes, height, width, width, Format::Gray8).expect("a frame");
    let mut verdict = Verdict::default();
    inspector.inspect(&frame, &mut verdict).expect("a verdict");
    let mut sorted = verdict.map.clone();
    sorted.sort_unstable_by(f32::total_cmp);
    for share in [0.5, 0.9, 0.99, 1.0] {
        let pixel = sorted[((sorted.len() - 1) as f64 * share) as usize];
        let image = inspector.thresholds().get().image;
        inspector.thresholds().set(Values { image, pixel }, "the test").expect("finite");
        inspector.inspect(&frame, &mut verdict).expect("a verdict");
        let map = |(x, y): &(i64, i64)| verdict.map[*y as usize * spec.width + *x as usize];
        let peak = |c: &HashSet<(i64, i64)>| c.iter().map(map).fold(f32::MIN, f32::max);
        let mut expected = naive(&verdict.map, spec.width, pixel);
        expected.sort_by(|a, b| peak(b).total_cmp(&peak(a)));
        assert_eq!(verdict.regions.len(), expected.len());
        assert!(verdict.regions.is_sorted_by(|a, b| a.peak >= b.peak));
        for (region, component) in verdict.regions.iter().zip(&expected) {
            let (xs, ys): (Vec<i64>, Vec<i64>) = component.iter().copied().unzip();
            let (left, right) = (xs.iter().min().expect("one"), xs.iter().max().expect("one"));
            let (top, bottom) = (ys.iter().min().expect("one"), ys.iter().max().expect("one"));
            assert_eq!((i64::from(region.left), i64::from(region.width)), (3 * left, 3 * (right - left + 1)));
            assert_eq!((i64::from(region.top), i64::from(region.height)), (2 * top, 2 * (bottom - top + 1)));
            assert_eq!(region.area, 6.0 * component.len() as f32);
            let mean = |v: &[i64], scale: f64| (v.iter().sum::<i64>() as f64 / v.len() as f64 + 0.5) * scale;
            assert!((f64::from(region.center_x) - mean(&xs, 3.0)).abs() < 1e-3);
            assert!((f64::from(region.center_y) - mean(&ys, 2.0)).abs() < 1e-3);
            assert_eq!(region.peak, peak(component));
            assert_eq!(map(&(i64::from(region.peak_x / 3), i64::from(region.peak_y / 2))), region.peak);
        }
    }
}

#[test]
fn no_more_regions_than_asked_for() {
    let bytes = noise(64, 64, 1);
    let frame = Frame::new(&bytes, 64, 64, 64, Format::Gray8).expect("a frame");
    let mut all = shipped(Options { regions: 10_000, ..Options::default() });
    let mut few = shipped(Options { regions: 2, ..Options::default() });
    let low = Values { image: 0.0, pixel: -1e30 };
    let (mut verdict, mut capped) = (Verdict::default(), Verdict::default());
    for inspector in [&all, &few] {
        inspector.thresholds().set(low, "the test").expect("finite");
    }
    all.inspect(&frame, &mut verdict).expect("a verdict");
    assert_eq!(verdict.regions.len(), 1, "all of the map is one region");
    assert_eq!((verdict.regions[0].width, verdict.regions[0].height, verdict.regions[0].area), (64, 64, 4096.0));
    few.inspect(&frame, &mut capped).expect("a verdict");
    assert_eq!(capped.regions, verdict.regions);
    let mut sorted = Vec::new();
    for inspector in [&mut all, &mut few] {
        let pixel = verdict.regions[0].peak * 0.9;
        inspector.thresholds().set(Values { pixel, ..low }, "the test").expect("finite");
        let mut verdict = Verdict::default();
        inspector.inspect(&frame, &mut verdict).expect("a verdict");
        sorted.push(verdict.regions);
    }
    let most = sorted[0].len().min(2);
    assert_eq!(sorted[1], sorted[0][..most]);
}
