//! Anomaly maps that outlast an evaluation: those of the images that a report shows.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::ScoredImage;
use crate::anomaly_map::AnomalyMap;

/// The map of one image.
struct Kept {
    score: f32,
    path: PathBuf,
    map: Arc<AnomalyMap>,
}

/// Maps, at the size of the model, of the images that a report shows: of either class those with the highest scores, and the
/// defective ones with the lowest.
#[derive(Default)]
pub struct KeptMaps {
    /// Maps of each kind.
    most: usize,
    /// Of good images by highest score; of defective ones by highest and by lowest.
    kept: [Vec<Kept>; 3],
}

impl KeptMaps {
    /// At most so many maps of each kind.
    pub(super) fn new(most: usize) -> Self {
        Self { most, ..Self::default() }
    }

    /// Keeps the map of an image where it is among the first.
    pub(super) fn take(&mut self, image: &ScoredImage, map: &AnomalyMap) {
        if self.most == 0 {
            return;
        }
        let mut shared: Option<Arc<AnomalyMap>> = None;
        let of_class = if image.item.defective { &mut self.kept[1..] } else { &mut self.kept[..1] };
        for (kept, sign) in of_class.iter_mut().zip([1.0, -1.0]) {
            let order = |kept: &Kept| sign * kept.score;
            let at = kept.partition_point(|other| order(other).total_cmp(&(sign * image.score)).is_ge());
            if at < self.most {
                let map = Arc::clone(shared.get_or_insert_with(|| Arc::new(map.clone())));
                kept.insert(at, Kept { score: image.score, path: image.item.path.clone(), map });
                kept.truncate(self.most);
            }
        }
    }

    /// Maps by the file of their image.
    pub fn by_file(&self) -> HashMap<&Path, &AnomalyMap> {
        self.kept.iter().flatten().map(|kept| (kept.path.as_path(), &*kept.map)).collect()
    }
}

#[cfg(test)]
mod tests {
    use hotad_engine::data::Item;

    use super::*;

    #[test]
    fn the_maps_that_a_report_shows_are_kept() {
        let mut maps = KeptMaps::new(2);
        let defective = [3.0, 1.0, 5.0, 2.0, 4.0].map(|score| (score, true));
        for (score, defective) in defective.into_iter().chain([0.5, 0.1, 0.7].map(|score| (score, false))) {
            let item = Item { path: format!("{score}.png").into(), kind: "hole".into(), defective, masks: Vec::new() };
            let image = ScoredImage { item, score, size: (1, 1), ms: 1.0, overlap: None };
            maps.take(&image, &AnomalyMap { height: 1, width: 1, values: vec![score].into() });
        }
        let kept = maps.by_file();
        let mut scores: Vec<f32> = kept.values().map(|map| map.values[0]).collect();
        scores.sort_by(f32::total_cmp);
        assert_eq!(scores, [0.5, 0.7, 1.0, 2.0, 4.0, 5.0]);
        assert_eq!(kept[Path::new("5.png")].values[..], [5.0]);
    }

    #[test]
    fn nothing_is_kept_unasked() {
        let mut maps = KeptMaps::new(0);
        let item = Item { path: "1.png".into(), kind: "good".into(), defective: false, masks: Vec::new() };
        maps.take(&ScoredImage { item, score: 1.0, size: (1, 1), ms: 1.0, overlap: None }, &AnomalyMap::default());
        assert!(maps.by_file().is_empty());
    }
}
