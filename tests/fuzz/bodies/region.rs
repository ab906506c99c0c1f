//! Text of a region of interest.

use hotad_engine::data::roi::Roi;

/// Whether text is a region of boxes and polygons; what is printed is read as the same, from text and from JSON.
pub fn check(bytes: &[u8]) -> bool {
    // A mask is a file that would be read.
    let Some(text) = std::str::from_utf8(bytes).ok().filter(|text| !text.contains("mask")) else { return false };
    match text.parse::<Roi>() {
        Ok(roi) => {
            let bounds = roi.bounds();
            assert!(bounds.width > 0 && bounds.height > 0 && roi.pixels() > 0);
            assert!(roi.to_string().parse::<Roi>().expect("its own text") == roi);
            let json = serde_json::to_string(&roi).expect("plain data");
            assert!(serde_json::from_str::<Roi>(&json).expect("its own JSON") == roi);
            true
        }
        Err(error) => {
            super::is_one_line(&error, 20_000);
            false
        }
    }
}
