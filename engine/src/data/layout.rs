//! Recognising the layout of a data set and listing its images.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use super::folder::{Contents, Lister};
use super::left_out;
use super::masks::Masks;
use super::names::{make_distinct, text};
use super::{Dataset, Item, Layout, bad, loco};
use crate::error::{Error, Result, shown};
use crate::random;

/// What a data set may look like.
const LAYOUTS: &str =
    "expected train/good and test/* (MVTec AD), positive/ and negative/, or a folder of normal images";

/// Kind of normal images.
const GOOD: &str = "good";

/// Folders whose images are never all normal.
const NOT_NORMAL: [&str; 3] = ["positive", "test", "ground_truth"];

/// Share of the normal images of a positive/negative folder that is kept for testing.
const NEGATIVE_TEST_SHARE: f64 = 0.3;

fn normal(paths: Vec<PathBuf>) -> Vec<Item> {
    paths.into_iter().map(|path| Item { path, kind: GOOD.into(), defective: false, masks: Vec::new() }).collect()
}

/// Reads the folders of a data set.
pub(super) struct Reader {
    root: PathBuf,
    lister: Lister,
    /// Folders below those whose images are taken.
    below: Vec<PathBuf>,
    warnings: Vec<String>,
}

impl Reader {
    pub(super) fn new(root: &Path) -> Self {
        Self { root: root.into(), lister: Lister::default(), below: Vec::new(), warnings: Vec::new() }
    }

    /// Recognises the layout and lists the images.
    ///
    /// # Errors
    /// When there are none, their layout is not clear, or a mask belongs to no image.
    pub(super) fn read(mut self) -> Result<Dataset> {
        let root = self.root.clone();
        let top = self.lister.visit(&root)?;
        let parts = ["train", "test", "positive", "negative"].map(|name| top.folder(name).cloned());
        let mut data = match parts {
            [None, None, Some(positive), Some(negative)] => self.positive_negative(&positive, &negative)?,
            [None, None, ..] => {
                let train = normal(self.only_folder(&root, &top)?);
                self.dataset(Layout::Plain, train, Vec::new(), Vec::new())
            }
            [train, test, ..] => self.mvtec(&top, train.as_deref(), test.as_deref())?,
        };
        if data.layout != Layout::Plain {
            self.lister.leave_elsewhere(top.images);
        }
        if data.train.is_empty() && data.test.is_empty() {
            return bad(&root, format!("no images found; {LAYOUTS}"));
        }
        // Last, as a link may lead from there to images that are taken.
        for folder in std::mem::take(&mut self.below) {
            self.leave_below(&folder)?;
        }
        data.warnings = self.warnings;
        data.warnings.extend(left_out::warnings(&self.lister.left_out));
        Ok(data)
    }

    /// The images of a folder itself.
    fn images(&mut self, folder: &Path) -> Result<Vec<PathBuf>> {
        let Contents { images, folders } = self.lister.visit(folder)?;
        self.below.extend(folders);
        Ok(images)
    }

    /// Leaves out all images under a folder that are not taken.
    fn leave_below(&mut self, folder: &Path) -> Result<()> {
        for (_, images) in self.lister.walk(folder)? {
            self.lister.leave_elsewhere(images);
        }
        Ok(())
    }

    fn dataset(&self, layout: Layout, train: Vec<Item>, validation: Vec<Item>, test: Vec<Item>) -> Dataset {
        Dataset { root: self.root.clone(), layout, train, validation, test, warnings: Vec::new() }
    }

    fn mvtec(&mut self, top: &Contents, train: Option<&Path>, test: Option<&Path>) -> Result<Dataset> {
        let train = match self.normal_part(train) {
            // Tests can be evaluated all the same.
            Err(unclear @ Error::Data { .. }) if test.is_some() => {
                self.warnings.push(unclear.to_string());
                Vec::new()
            }
            train => normal(train?),
        };
        let validation = normal(self.normal_part(top.folder("validation").map(PathBuf::as_path))?);
        let tests = test.map(|test| self.lister.visit(test)).transpose()?.unwrap_or_default();
        let kinds = ["logical_anomalies", "structural_anomalies"];
        let loco = self.root.join(loco::CONFIG).is_file() || kinds.iter().any(|k| tests.folder(k).is_some());
        let layout = if loco { Layout::Loco } else { Layout::Mvtec };
        let truth = top.folder("ground_truth").map(|truth| self.lister.list(truth)).transpose()?.unwrap_or_default();
        self.lister.leave_elsewhere(tests.images);
        let mut names: Vec<String> = tests.folders.iter().map(|f| text(f.file_name().unwrap_or_default())).collect();
        make_distinct(names.iter_mut().filter(|n| !is_good(n)));
        // Folders in the order of their names, though links are visited after what they lead to.
        let mut all = Vec::new();
        for (folder, kind) in tests.folders.iter().zip(names) {
            all.push((folder, self.kind(folder, kind, &truth, layout)?));
        }
        all.sort_by_key(|(folder, _)| *folder);
        let test = all.into_iter().flat_map(|(_, items)| items).collect();
        Ok(self.dataset(layout, train, validation, test))
    }

    /// The test images of a kind, with their masks.
    fn kind(&mut self, folder: &Path, kind: String, truth: &Contents, layout: Layout) -> Result<Vec<Item>> {
        let images = self.images(folder)?;
        let masks = match truth.folder(folder.file_name().unwrap_or_default()) {
            // A link to the folder of another kind adds no images, and needs no masks.
            Some(truth) if !images.is_empty() => Masks::read(truth, &images, &mut self.lister)?,
            _ => Masks::default(),
        };
        if is_good(&kind) {
            return Ok(normal(images));
        }
        let item = |path: PathBuf| {
            let masks = masks.of(&path, layout, &mut self.lister)?;
            Ok(Item { path, kind: kind.clone(), defective: true, masks })
        };
        images.into_iter().map(item).collect()
    }

    /// Normal images of a part: those in `good`, else those of its only folder.
    fn normal_part(&mut self, part: Option<&Path>) -> Result<Vec<PathBuf>> {
        let Some(part) = part else { return Ok(Vec::new()) };
        let contents = self.lister.visit(part)?;
        let good: Vec<PathBuf> = contents.named(OsStr::new(GOOD)).into_iter().cloned().collect();
        if good.is_empty() {
            return self.only_folder(part, &contents);
        }
        self.lister.leave_elsewhere(contents.images);
        self.below.extend(contents.folders);
        let mut images = Vec::new();
        for folder in good {
            images.extend(self.images(&folder)?);
        }
        images.sort();
        Ok(images)
    }

    /// The images of a folder itself; without any, those of the only folder in it that holds images, however deep.
    fn only_folder(&mut self, folder: &Path, contents: &Contents) -> Result<Vec<PathBuf>> {
        let mut deeper = Vec::new();
        for inner in &contents.folders {
            deeper.extend(self.lister.walk(inner)?);
        }
        if !contents.images.is_empty() {
            deeper.into_iter().for_each(|(_, images)| self.lister.leave_elsewhere(images));
            return Ok(contents.images.clone());
        }
        let normal = |inside: &Path| {
            let names = inside.strip_prefix(folder).unwrap_or(inside).iter();
            !names.into_iter().any(|name| NOT_NORMAL.iter().any(|n| name.eq_ignore_ascii_case(n)))
        };
        match deeper.as_mut_slice() {
            [] => Ok(Vec::new()),
            [(inside, images)] if normal(inside) => Ok(std::mem::take(images)),
            [(first, _), rest @ ..] => {
                let others = if rest.is_empty() { String::new() } else { format!(" and {} more", rest.len()) };
                let reason =
                    format!("images lie in {}{others}, which does not tell the normal ones; {LAYOUTS}", shown(first));
                bad(folder, reason)
            }
        }
    }

    /// Normal images are split by a fixed shuffle of their names: 30 % are kept for testing.
    fn positive_negative(&mut self, positive: &Path, negative: &Path) -> Result<Dataset> {
        let item = |path| Item { path, kind: "positive".into(), defective: true, masks: Vec::new() };
        let mut test: Vec<Item> = self.images(positive)?.into_iter().map(item).collect();
        let negatives = normal(self.images(negative)?);
        let kept = (negatives.len() as f64 * NEGATIVE_TEST_SHARE).round() as usize;
        let order = random::shuffled(negatives.len(), 0, "negative test split", 0);
        let mut train: Vec<Item> = order[kept..].iter().map(|i| negatives[*i].clone()).collect();
        train.sort_by(|a, b| a.path.cmp(&b.path));
        test.extend(order[..kept].iter().map(|i| negatives[*i].clone()));
        Ok(self.dataset(Layout::PositiveNegative, train, Vec::new(), test))
    }
}

fn is_good(kind: &str) -> bool {
    kind.eq_ignore_ascii_case(GOOD)
}
