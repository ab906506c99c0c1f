//! Metrics.

use hotad_engine::metrics::overlap::Overlap;
use hotad_engine::metrics::ranking::Ranking;
use hotad_engine::metrics::region::{CurvePoint, DefectRegion, area, components};
use hotad_engine::metrics::tally::Tally;

use crate::case::{Case, Outputs, outputs};

/// Whether a case is about a metric.
pub fn knows(case: &Case) -> bool {
    let names = [
        "auroc",
        "pixel_auroc",
        "average_precision",
        "f1_max",
        "dice",
        "iou",
        "pro_curve",
        "aupro",
        "spro_curve",
        "auspro",
    ];
    names.contains(&case.op.as_str())
}

pub fn run(case: &Case) -> Option<Outputs> {
    match case.op.as_str() {
        "auroc" => Some(outputs([("auroc", vec![ranking(case, "score", "label").auroc()?])])),
        "pixel_auroc" => Some(outputs([("auroc", vec![tally(case, mask_components(case)).ranking().auroc()?])])),
        "average_precision" => Some(outputs([("ap", vec![ranking(case, "score", "label").average_precision()?])])),
        "f1_max" => {
            let (f1, threshold) = ranking(case, "score", "label").f1_max()?;
            Some(outputs([("f1", vec![f1]), ("threshold", vec![threshold.into()])]))
        }
        "dice" => Some(outputs([("dice", overlaps(case, Overlap::dice))])),
        "iou" => Some(outputs([("iou", overlaps(case, Overlap::iou))])),
        "pro_curve" => {
            let points: Vec<CurvePoint> = tally(case, mask_components(case)).curve()?.collect();
            Some(curve_outputs(&points, "pro"))
        }
        "aupro" => {
            let mut tally = tally(case, mask_components(case));
            let value = area(tally.bends()?, case.number("limit"));
            Some(outputs([("aupro", vec![value]), ("components", vec![tally.regions() as f64])]))
        }
        "spro_curve" => Some(curve_outputs(&tally(case, channels(case)).curve()?.collect::<Vec<_>>(), "spro")),
        "auspro" => {
            let value = area(tally(case, channels(case)).bends()?, case.number("limit"));
            Some(outputs([("auspro", vec![value])]))
        }
        _ => None,
    }
}

fn ranking(case: &Case, scores: &str, labels: &str) -> Ranking {
    Ranking::new(case.flat(scores).into_iter().zip(case.flat(labels).into_iter().map(|l| l > 0.0)))
}

fn images(case: &Case, name: &str) -> Vec<Vec<f32>> {
    let pixels = case.shape(name)[2] * case.shape(name)[3];
    case.flat(name).chunks_exact(pixels).map(<[f32]>::to_vec).collect()
}

fn maps(case: &Case) -> Vec<Vec<f32>> {
    images(case, "map")
}

fn overlaps(case: &Case, measure: fn(&Overlap) -> f64) -> Vec<f64> {
    let pairs = images(case, "pred").into_iter().zip(images(case, "target"));
    pairs.map(|(p, t)| measure(&Overlap::count(p.iter().zip(&t).map(|(p, t)| (*p > 0.5, *t > 0.5))))).collect()
}

/// All images with the regions of each.
fn tally(case: &Case, regions: Vec<Vec<DefectRegion>>) -> Tally {
    let mut tally = Tally::default();
    for (map, regions) in maps(case).iter().zip(regions) {
        let mut defect = vec![false; map.len()];
        regions.iter().flat_map(|r| &r.pixels).for_each(|p| defect[*p as usize] = true);
        tally.add(map, &defect, &regions);
    }
    tally
}

fn mask_components(case: &Case) -> Vec<Vec<DefectRegion>> {
    let width = case.shape("mask")[3];
    let masks = images(case, "mask").into_iter();
    masks.map(|m| components(&m.iter().map(|v| *v > 0.5).collect::<Vec<_>>(), width)).collect()
}

fn channels(case: &Case) -> Vec<Vec<DefectRegion>> {
    let mut regions = vec![Vec::new(); maps(case).len()];
    let places = case.flat("image_index").into_iter().zip(case.flat("saturation"));
    for (gt, (image, saturation)) in images(case, "gt").iter().zip(places) {
        let pixels = gt.iter().enumerate().filter(|(_, v)| **v > 0.5).map(|(i, _)| i as u32).collect();
        regions[image as usize].push(DefectRegion { pixels, saturation: saturation.into() });
    }
    regions
}

fn curve_outputs(points: &[CurvePoint], overlap: &str) -> Outputs {
    outputs([
        ("fpr", points.iter().map(|p| p.fpr).collect()),
        (overlap, points.iter().map(|p| p.overlap).collect()),
        ("threshold", points.iter().skip(1).map(|p| p.threshold.into()).collect()),
    ])
}
