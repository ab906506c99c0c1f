//! `hotad synth`.

use std::path::Path;

use hotad_engine::data::picture::Picture;
use hotad_engine::data::synth::{Kind, draw};
use hotad_engine::{AtPath, Error, Result, random};
use hotad_models::jobs::data_set;

use crate::args::{Common, SynthArgs};
use crate::{OK, output};

/// What is drawn.
#[derive(Clone, Copy)]
pub struct Defects {
    pub kind: Kind,
    /// Defective images.
    pub count: u32,
    /// Rows and columns to bring images to before; `None` leaves them as they are.
    pub size: Option<u32>,
}

/// Draws the defects that are asked for.
pub fn run(args: &SynthArgs, common: &Common) -> Result<u8> {
    let defects = Defects { kind: args.kind, count: args.count, size: args.size };
    draw_data_set(&args.from, &args.out, defects, common)?;
    Ok(OK)
}

/// Draws defects on normal images and writes a data set in MVTec AD's layout. The normal images it
/// draws on are test images where the data set has some, so that no trained image is reused.
pub fn draw_data_set(from: &Path, out: &Path, defects: Defects, common: &Common) -> Result<()> {
    let Defects { kind, count, size } = defects;
    let (_, name) = Kind::ALL.into_iter().find(|(one, _)| *one == kind).expect("all kinds are there");
    let data = data_set(from, &common.terminal)?;
    let held: Vec<_> = data.test.iter().filter(|i| !i.defective).map(|i| i.path.clone()).collect();
    let normals = if held.is_empty() { data.train.iter().map(|i| i.path.clone()).collect() } else { held };
    if normals.is_empty() {
        let reason = "no normal images to draw on; expected test/good or a plain folder";
        return Err(Error::Data { path: from.into(), reason: reason.into() });
    }
    let kinds = ["test/good".to_string(), format!("test/{name}"), format!("ground_truth/{name}")];
    for folder in kinds.iter().map(|kind| out.join(kind)).filter(|folder| folder.exists()) {
        if std::fs::read_dir(&folder).at(&folder)?.next().is_some() {
            return Err(Error::Config(format!("{}: already holds files; choose another --out", folder.display())));
        }
    }
    output::folder(out)?;
    // Drawn apart, so that a data set is there whole or not at all.
    let drawn = tempfile::Builder::new().prefix(".hotad-").tempdir_in(out).at(out)?;
    let [good, bad, truth] = kinds.each_ref().map(|kind| drawn.path().join(kind));
    [&good, &bad, &truth].into_iter().try_for_each(|folder| output::folder(folder))?;
    let open = |path: &Path| -> Result<Picture> {
        let picture = Picture::read(path)?;
        match size {
            Some(size) => picture.resized(size as usize, size as usize),
            None => Ok(picture),
        }
    };
    for (i, path) in normals.iter().enumerate() {
        hotad_engine::interrupt::check()?;
        open(path)?.write_png(&good.join(format!("{i:04}.png")))?;
    }
    for i in 0..count as usize {
        hotad_engine::interrupt::check()?;
        let normal = open(&normals[i % normals.len()])?;
        let (picture, mask) = draw(kind, &normal, &mut random::stream(common.seed, name, i as u64));
        picture.write_png(&bad.join(format!("{i:04}.png")))?;
        let values = mask.defect.iter().map(|d| f32::from(u8::from(*d))).collect();
        let mask = Picture { height: mask.height, width: mask.width, channels: 1, values };
        mask.write_png(&truth.join(format!("{i:04}_mask.png")))?;
    }
    for kind in &kinds {
        let (from, to) = (drawn.path().join(kind), out.join(kind));
        to.parent().map_or(Ok(()), std::fs::create_dir_all).at(&to)?;
        std::fs::rename(from, &to).at(&to)?;
    }
    common.say(&format!("wrote {} normal and {} defective images to {}", normals.len(), count, out.display()));
    Ok(())
}
