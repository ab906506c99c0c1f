//! Bytes of an image file.

use hotad_engine::data::decode::decode;
use hotad_engine::data::limits::Limits;
use hotad_engine::data::picture::ImageSpec;

/// A megapixel.
const LIMITS: Limits = Limits { pixels: 1_000_000, bytes: 1 << 20 };

/// Decodes bytes and looks at every pixel; whether they are an image.
pub fn check(bytes: &[u8]) -> bool {
    match decode(bytes, &LIMITS) {
        Ok(raster) => {
            let (height, width) = (raster.height(), raster.width());
            assert!(height * width <= 1_000_000, "within limits");
            let spec = ImageSpec { height: 8, width: 8, channels: 3 };
            let small = raster.fit(spec, None).expect("an image has pixels");
            assert_eq!(small.values.len(), spec.len());
            true
        }
        Err(refusal) => {
            let reason = refusal.to_string();
            assert!(!reason.contains('\n') && reason.len() < 1000, "{reason}");
            false
        }
    }
}
