//! Regions as text: `box:LEFT,TOP,WIDTH,HEIGHT`, `polygon:X,Y,X,Y,...`, `mask:FILE`; several, with `;` between them, unite.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use super::shape::Shape;
use super::{Parts, Roi, refuse};
use crate::error::{Error, Result};

/// The forms of text.
const FORMS: &str = "use box:LEFT,TOP,WIDTH,HEIGHT, polygon:X,Y,X,Y,... or mask:FILE";

/// The numbers between commas.
fn numbers<T: FromStr>(text: &str) -> Option<Vec<T>> {
    text.split(',').map(|number| number.trim().parse().ok()).collect()
}

/// The file of a mask.
fn mask_file(text: &str) -> Option<&Path> {
    text.trim().strip_prefix("mask:").map(Path::new)
}

/// A box or a polygon.
fn shape(text: &str) -> Result<Shape> {
    let shape = match text.trim().split_once(':') {
        Some(("box", rest)) => numbers(rest)
            .and_then(|n| <[u32; 4]>::try_from(n).ok())
            .map(|[left, top, width, height]| Shape::Box { left, top, width, height }),
        Some(("polygon", rest)) => numbers(rest)
            .filter(|n: &Vec<f64>| n.len().is_multiple_of(2))
            .map(|n| Shape::Polygon(n.as_chunks().0.to_vec())),
        _ => None,
    };
    shape.map_or_else(|| refuse(format!("{text:?}; {FORMS}")), Ok)
}

impl FromStr for Roi {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match mask_file(text) {
            Some(file) if file.as_os_str().is_empty() => refuse(format!("{text:?} names no file; {FORMS}")),
            Some(file) => Self::mask(file),
            None => Parts::Shapes(text.split(';').map(shape).collect::<Result<_>>()?).try_into(),
        }
    }
}

impl Roi {
    /// The union of regions as text; none for no text.
    ///
    /// # Errors
    /// For text that is of no form or of a region that cannot be, a mask that cannot be read, or one beside other regions.
    pub fn parse<T: AsRef<str>>(texts: &[T]) -> Result<Option<Self>> {
        let texts: Vec<&str> = texts.iter().map(AsRef::as_ref).collect();
        match &texts[..] {
            [] => Ok(None),
            [_, _, ..] if texts.iter().any(|text| mask_file(text).is_some()) => {
                refuse("a mask stands alone; draw the other shapes into it")
            }
            all => all.join(";").parse().map(Some),
        }
    }
}

impl fmt::Debug for Roi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Roi({self})")
    }
}

impl fmt::Display for Roi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shapes = match &self.0.parts {
            Parts::Mask(mask) => {
                return write!(f, "mask of {} x {} pixels, {} inside", mask.width, mask.height, self.pixels());
            }
            Parts::Shapes(shapes) => shapes,
        };
        for (i, shape) in shapes.iter().enumerate() {
            f.write_str(if i == 0 { "" } else { ";" })?;
            match shape {
                Shape::Box { left, top, width, height } => write!(f, "box:{left},{top},{width},{height}")?,
                Shape::Polygon(corners) => {
                    let numbers: Vec<String> = corners.iter().flatten().map(f64::to_string).collect();
                    write!(f, "polygon:{}", numbers.join(","))?;
                }
            }
        }
        Ok(())
    }
}
