//! What happens inside a method on the way to its scores, for a report.

use hotad_engine::Result;
use hotad_engine::data::picture::Picture;
use hotad_engine::tensor::Tensor;

/// A method that can tell what happened inside.
pub trait Explainable: Send + Sync {
    /// What [`Explainable::explain`] shows.
    ///
    /// # Errors
    /// When the settings of the model leave nothing to show; says which.
    fn explanation(&self) -> Result<Explanation>;

    /// What happened on the way to the scores, image by image.
    ///
    /// # Errors
    /// When the batch has another shape.
    fn explain(&self, images: &Tensor) -> Result<Vec<Vec<Illustration>>>;

    /// Image scores, image by image, as they would be at other values of a setting; none for most methods.
    ///
    /// # Errors
    /// When the batch has another shape.
    fn sweeps(&self, _images: &Tensor) -> Result<Vec<Vec<Sweep>>> {
        Ok(Vec::new())
    }
}

/// What a report says about a method's inside.
#[derive(Clone, Copy, Debug)]
pub struct Explanation {
    /// A few words.
    pub heading: &'static str,
    /// What is to be seen.
    pub text: &'static str,
}

/// Scores of one image along a setting.
#[derive(Clone, Debug)]
pub struct Sweep {
    /// The setting.
    pub chart: &'static str,
    /// Which score.
    pub name: &'static str,
    /// Values of the setting.
    pub x: Vec<f32>,
    /// Score at each.
    pub scores: Vec<f32>,
}

/// A picture of something inside a method.
#[derive(Clone, Debug)]
pub struct Illustration {
    /// The row of the table it belongs to.
    pub row: String,
    /// The column.
    pub column: String,
    /// Values in 0..1.
    pub picture: Picture,
}
