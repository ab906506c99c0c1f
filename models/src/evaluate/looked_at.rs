//! Pixels of an image that pixel metrics count: those inside of the region of interest.

use hotad_engine::Result;
use hotad_engine::data::picture::Mask;
use hotad_engine::data::roi::Roi;
use hotad_engine::metrics::region::DefectRegion;

/// Which pixels of an image are counted.
pub struct LookedAt {
    /// Whether each is; `None` where all are.
    inside: Option<Vec<bool>>,
}

impl LookedAt {
    /// The pixels of an image of `size` (rows, columns) inside of a region, or all.
    pub fn new(roi: Option<&Roi>, size: (usize, usize)) -> Result<Self> {
        Ok(Self { inside: roi.map(|roi| roi.inside_frame(size)).transpose()? })
    }

    /// A mask without what is not counted.
    pub fn mask(&self, mut mask: Mask) -> Mask {
        if let Some(inside) = &self.inside {
            mask.defect.iter_mut().zip(inside).for_each(|(defect, inside)| *defect &= inside);
        }
        mask
    }

    /// Leaves only values of pixels that are counted.
    pub fn keep<T>(&self, values: &mut Vec<T>) {
        if let Some(inside) = &self.inside {
            let mut inside = inside.iter();
            values.retain(|_| *inside.next().expect("a flag for each pixel"));
        }
    }

    /// Numbers the pixels of regions, all of which are counted, among those that are counted.
    pub fn renumber(&self, regions: &mut [DefectRegion]) {
        let Some(inside) = &self.inside else { return };
        let count = |next: &mut u32, inside: &bool| Some(std::mem::replace(next, *next + u32::from(*inside)));
        let numbers: Vec<u32> = inside.iter().scan(0, count).collect();
        regions.iter_mut().flat_map(|r| &mut r.pixels).for_each(|pixel| *pixel = numbers[*pixel as usize]);
    }
}
