//! Metrics as lines of a table, for the terminal and for reports.

use hotad_models::evaluate::{ByKind, KindMetrics, Metrics};

/// Names of the metrics of MVTec LOCO by kind of defect.
const LOCO_ROWS: [[&str; 3]; 2] = [
    ["image AUROC, logical", "image AUROC, structural", "image AUROC, mean"],
    ["AU-sPRO 0.05, logical", "AU-sPRO 0.05, structural", "AU-sPRO 0.05, mean"],
];

fn number(value: Option<f64>) -> String {
    value.map_or("null".to_string(), |v| format!("{v:.4}"))
}

/// Names and values of the metrics, with 95 % intervals, for tables.
pub fn rows(m: &Metrics) -> Vec<(&'static str, String)> {
    let c = &m.confusion;
    let with = |key: &str, value: Option<f64>| match m.intervals.get(key) {
        Some([low, high]) => format!("{}  [{low:.4}, {high:.4}]", number(value)),
        None => number(value),
    };
    let mut rows = vec![
        ("test images", format!("{} good, {} defective", m.good, m.defective)),
        ("parts", m.parts.to_string()),
        ("image AUROC", with("image_auroc", m.image_auroc)),
        ("image AP", with("image_ap", m.image_ap)),
        ("image F1-max", with("image_f1_max", m.image_f1_max)),
        ("image F1 at threshold", with("image_f1_at_threshold", m.image_f1_at_threshold)),
        ("precision", with("precision", m.precision)),
        ("recall", with("recall", m.recall)),
        ("false-alarm rate", with("false_alarm_rate", m.false_alarm_rate)),
        ("defective at threshold", format!("{} anomaly, {} normal", c.true_positive, c.false_negative)),
        ("good at threshold", format!("{} anomaly, {} normal", c.false_positive, c.true_negative)),
    ];
    if m.pixel_auroc.is_some() {
        rows.extend([
            ("pixel AUROC", with("pixel_auroc", m.pixel_auroc)),
            ("pixel AP", with("pixel_ap", m.pixel_ap)),
            ("AU-PRO 0.3", with("aupro_30", m.aupro_30)),
            ("Dice max", with("dice_max", m.dice_max)),
            ("Dice, best threshold", with("dice_best_threshold", m.dice_best_threshold)),
            ("Dice at threshold", with("dice_at_threshold", m.dice_at_threshold)),
            ("IoU at threshold", with("iou_at_threshold", m.iou_at_threshold)),
        ]);
    }
    let of_kinds = |metric: &str, by_kind: ByKind| {
        let values = [("logical", by_kind.logical), ("structural", by_kind.structural), ("mean", by_kind.mean)];
        values.map(|(kind, value)| with(&format!("{metric}_{kind}"), value))
    };
    if let Some(by_kind) = m.image_auroc_by_kind {
        rows.extend(LOCO_ROWS[0].into_iter().zip(of_kinds("image_auroc", by_kind)));
    }
    if let Some(by_kind) = m.auspro.get("auspro_05").copied() {
        rows.extend(LOCO_ROWS[1].into_iter().zip(of_kinds("auspro_05", by_kind)));
    }
    rows.push(("time per image", format!("{:.1} ms", m.ms_per_image)));
    if let Some(other) = &m.against_f32 {
        rows.extend([
            ("precision of products", other.precision.to_string()),
            ("image AUROC in f32", number(other.image_auroc)),
            ("pixel AUROC in f32", number(other.pixel_auroc)),
            ("largest score difference", format!("{:.3e}", other.largest_score_difference)),
            ("other verdicts in f32", other.other_verdicts.to_string()),
        ]);
    }
    rows
}

/// Names of the columns of [`kinds`].
pub const KINDS: [&str; 5] = ["kind of defect", "images", "image AUROC", "recall", "Dice at threshold"];

/// A line for each kind of defect.
pub fn kinds(m: &Metrics) -> Vec<[String; 5]> {
    let line = |(kind, k): (&String, &KindMetrics)| {
        let with = |key: &str, value| match k.intervals.get(key) {
            Some([low, high]) => format!("{} [{low:.2}, {high:.2}]", number(value)),
            None => number(value),
        };
        let [auroc, recall] = [with("image_auroc", k.image_auroc), with("recall", Some(k.recall))];
        [kind.clone(), k.images.to_string(), auroc, recall, with("dice_at_threshold", k.dice_at_threshold)]
    };
    m.kinds.iter().map(line).collect()
}
