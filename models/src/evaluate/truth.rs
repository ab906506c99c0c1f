//! Ground truth of an image: which pixels its masks call defective.

use hotad_engine::Result;
use hotad_engine::data::corrupt::Corrupt;
use hotad_engine::data::loco::Saturations;
use hotad_engine::data::picture::Mask;
use hotad_engine::data::roi::Roi;
use hotad_engine::data::{Dataset, Item, Layout};
use hotad_engine::metrics::region::DefectRegion;

use super::looked_at::LookedAt;

/// The truth about the pixels of an image.
pub(super) struct Truth {
    /// Which are defective.
    pub defect: Vec<bool>,
    /// For LOCO: its defects, with the pixels after which each counts as found.
    pub saturating: Option<Vec<DefectRegion>>,
}

/// Reads the masks of a data set.
pub(super) struct Truths {
    saturations: Option<Saturations>,
    corrupt: Option<Corrupt>,
    /// Outside, nothing is defective.
    roi: Option<Roi>,
}

impl Truths {
    /// Of a data set, its images changed or not, within a region.
    pub fn new(data: &Dataset, corrupt: Option<Corrupt>, roi: Option<Roi>) -> Result<Self> {
        let saturations = (data.layout == Layout::Loco).then(|| Saturations::read(&data.root)).transpose()?;
        Ok(Self { saturations, corrupt, roi })
    }

    /// Of test image number `index` at the size of its file.
    pub fn of(&self, item: &Item, index: usize, (height, width): (usize, usize)) -> Result<Truth> {
        let looked_at = LookedAt::new(self.roi.as_ref(), (height, width))?;
        let changed = |mask: Mask| {
            let mask = match self.corrupt {
                Some(corrupt) => corrupt.mask(mask, index),
                None => mask,
            };
            looked_at.mask(mask)
        };
        let defect = changed(Mask::of_item(item, height, width)?).defect;
        let regions = |s: &Saturations| s.regions(item, (height, width), &changed);
        Ok(Truth { defect, saturating: self.saturations.as_ref().map(regions).transpose()? })
    }
}
