//! Maps, overlays, recoloured images and what happens inside a model, written beside each other and over nothing.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use hotad_engine::data::loader::{Batch, BatchFile};
use hotad_engine::data::picture::Picture;
use hotad_engine::{Error, Result};
use hotad_models::detector::Score;
use hotad_models::explanation::Illustration;
use hotad_models::model::Model;

use crate::args::{Maps, ScoreArgs};
use crate::{output, overlay};

/// The folder for pictures.
pub struct Folder<'a> {
    path: &'a Path,
    maps: Maps,
    force: bool,
    /// Whether what happens inside is written.
    explain: bool,
    /// What is read; never written over.
    inputs: HashSet<PathBuf>,
}

impl<'a> Folder<'a> {
    /// The one that is asked for, when nothing is in the way of what will be written for a run's own images.
    pub fn open(
        args: &'a ScoreArgs,
        images: &[(PathBuf, String)],
        own: impl Fn(&Path) -> bool,
    ) -> Result<Option<Self>> {
        let Some(path) = &args.out else { return Ok(None) };
        output::folder(path)?;
        let read = images.iter().map(|(image, _)| image).chain([&args.model]);
        let inputs = read.filter_map(|p| p.canonicalize().ok()).collect();
        let folder = Self { path, maps: args.maps, force: args.force, explain: args.explain, inputs };
        for (_, name) in images.iter().filter(|(path, _)| own(path)) {
            folder.check(&folder.overlay(name))?;
            folder.map(name).map_or(Ok(()), |map| folder.check(&map))?;
        }
        Ok(Some(folder))
    }

    fn overlay(&self, name: &str) -> PathBuf {
        self.path.join(format!("{name}_overlay.png"))
    }

    fn map(&self, name: &str) -> Option<PathBuf> {
        self.maps.extension().map(|ending| self.path.join(format!("{name}_map.{ending}")))
    }

    /// Refuses to write over an input, and over what was there before without `--force`.
    fn check(&self, file: &Path) -> Result<()> {
        let refuse = |reason: &str| Err(Error::Config(format!("{}: {reason}", file.display())));
        match file.canonicalize() {
            Err(_) => Ok(()), // nothing there
            Ok(there) if self.inputs.contains(&there) => {
                refuse("is read in this run and would be written over; choose another --out")
            }
            Ok(_) if !self.force => refuse("is there already; choose another --out, or --force to write over it"),
            Ok(_) => Ok(()),
        }
    }

    /// Writes map and overlay of one image; returns the path of the map.
    pub fn write(&self, model: &Model, name: &str, image: BatchFile, score: Score) -> Result<Option<PathBuf>> {
        let map = model.map_at(score.map, image.size)?;
        overlay::overlay(image.into_original()?.picture(), &map, &model.calibration).write_png(&self.overlay(name))?;
        let file = self.map(name);
        match (&file, self.maps) {
            (Some(file), Maps::Npy) => output::write_npy(file, &map)?,
            (Some(file), _) => {
                let values = map.values.iter().map(|v| model.calibration.pictured(*v)).collect();
                Picture { height: map.height, width: map.width, channels: 1, values }.write_png(file)?;
            }
            (None, _) => {}
        }
        Ok(file)
    }

    /// Writes the images as the model would colour them, where it does.
    pub fn write_recoloured(&self, model: &Model, batch: &Batch, images: &[(PathBuf, String)]) -> Result<()> {
        let Some(recolouring) = model.detector.as_recolouring() else { return Ok(()) };
        let pictures = recolouring.recoloured(&batch.images)?;
        for (picture, image) in pictures.into_iter().zip(&batch.files) {
            self.write_picture(model, picture, image, &format!("{}_recoloured", images[image.index].1))?;
        }
        Ok(())
    }

    /// Writes what happens inside the model on the way to the scores, where that is asked for.
    pub fn write_steps(&self, model: &Model, batch: &Batch, images: &[(PathBuf, String)]) -> Result<()> {
        if !self.explain {
            return Ok(());
        }
        let steps = model.explainable()?.explain(&batch.images)?;
        for (steps, image) in steps.into_iter().zip(&batch.files) {
            for Illustration { row, column, picture } in steps {
                let name = &images[image.index].1;
                self.write_picture(
                    model,
                    picture,
                    image,
                    &format!("{name}_{}", file_name(&format!("{row} {column}"))),
                )?;
            }
        }
        Ok(())
    }

    /// Writes a picture that a model has made, at the size of what it looks at of the image.
    fn write_picture(&self, model: &Model, picture: Picture, image: &BatchFile, name: &str) -> Result<()> {
        let file = self.path.join(format!("{name}.png"));
        self.check(&file)?;
        let (height, width) = model.roi.as_ref().map_or(image.size, |roi| (roi.bounds().height, roi.bounds().width));
        picture.resized(height, width)?.write_png(&file)
    }
}

/// The words of a text in small letters, joined by `-`.
fn file_name(text: &str) -> String {
    let words = text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    words.map(str::to_lowercase).collect::<Vec<_>>().join("-")
}
