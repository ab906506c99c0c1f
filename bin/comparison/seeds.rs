//! Models that differ in their seed alone, taken together.

use super::{Row, Run, distinct};

/// Models of one method and settings with different seeds.
pub struct Seeds {
    /// The first of them.
    name: String,
    /// Numbers of the models, in order.
    models: Vec<usize>,
}

impl Seeds {
    /// Adds the mean over the seeds and the standard deviation (of a sample) behind the last of the models, where all have a value.
    pub fn add_rows(&self, rows: &mut Vec<Row>) {
        let count = self.models.len();
        let column = |i: usize| self.models.iter().map(|m| rows[*m].values[i]).collect::<Option<Vec<f64>>>();
        let of = |values: Vec<f64>| {
            let mean = values.iter().sum::<f64>() / count as f64;
            let squares: f64 = values.iter().map(|v| (v - mean).powi(2)).sum();
            (mean, (squares / (count - 1) as f64).sqrt())
        };
        let columns = rows[self.models[0]].values.len();
        let both: Vec<Option<(f64, f64)>> = (0..columns).map(|i| column(i).map(of)).collect();
        let row = |what: &str, values| Row {
            model: format!("{} and {}: {what}", self.name, seeds(count - 1)),
            folder: None,
            values,
        };
        let mean = row("mean", both.iter().map(|v| v.map(|(mean, _)| mean)).collect());
        let deviation = row("deviation", both.iter().map(|v| v.map(|(_, deviation)| deviation)).collect());
        let behind = self.models[count - 1] + 1;
        rows.splice(behind..behind, [mean, deviation]);
    }
}

/// So many seeds, in words.
fn seeds(count: usize) -> String {
    if count == 1 { "another seed".into() } else { format!("{count} other seeds") }
}

/// The models that differ in their seed alone, on every data set.
pub fn sets(runs: &[Run]) -> Vec<Seeds> {
    let models = distinct(runs, |r| r.model.clone());
    let of = |model: &String| runs.iter().filter(|r| r.change == "none" && r.model == *model).collect::<Vec<&Run>>();
    let alike = |a: &[&Run], b: &[&Run]| {
        let pair =
            |(a, b): (&&Run, &&Run)| a.metrics.method == b.metrics.method && a.recipe == b.recipe && a.seed != b.seed;
        a.iter().zip(b).all(pair)
    };
    let mut sets: Vec<Seeds> = Vec::new();
    for (number, model) in models.iter().enumerate() {
        let own = of(model);
        match sets.iter_mut().find(|set| set.models.iter().all(|other| alike(&of(&models[*other]), &own))) {
            Some(set) => set.models.push(number),
            None => sets.push(Seeds { name: model.clone(), models: vec![number] }),
        }
    }
    sets.retain(|set| set.models.len() > 1);
    sets.sort_by_key(|set| set.models.last().copied());
    sets
}
