//! What the frames show.

use std::time::{Duration, Instant};

use hotad::{Format, Frame, ImageSpec, Inspector, Verdict};
use hotad_engine::data::decode;
use hotad_engine::data::limits::Limits;
use hotad_engine::data::raster::Raster;
use hotad_engine::{Error, Result, input_file, random};
use rand::RngCore;

use crate::args::{BenchArgs, BenchFrom};

/// The pixels of every frame.
enum Pixels {
    /// An image.
    Image(Raster),
    /// Noise of so many rows and columns.
    Noise { bytes: Vec<u8>, height: usize, width: usize, format: Format },
}

/// Where frames come from.
pub struct Source {
    pixels: Pixels,
    /// The file that every frame is decoded from.
    file: Option<Vec<u8>>,
}

impl Source {
    /// As the command line has it, for a model that takes images of `spec`.
    pub fn of(args: &BenchArgs, spec: ImageSpec) -> Result<Self> {
        let Some(path) = &args.image else {
            if args.from == BenchFrom::File {
                return Err(Error::Config("--from file: name the file with --image".into()));
            }
            return Ok(Self { pixels: Pixels::noise(args.size, spec.channels), file: None });
        };
        let pixels = Pixels::Image(decode::open(path)?);
        let file = (args.from == BenchFrom::File).then(|| input_file::read(path)).transpose()?;
        Ok(Self { pixels, file })
    }

    /// Inspects a frame that was due at some time; returns how long its file took to decode.
    pub fn inspect(&self, inspector: &mut Inspector, due: Instant, verdict: &mut Verdict) -> Result<Duration> {
        let Some(file) = &self.file else {
            inspector.inspect_arrived(&self.pixels.frame(), due, verdict)?;
            return Ok(Duration::ZERO);
        };
        let started = Instant::now();
        let raster = decode::decode(file, &Limits::chosen()).map_err(|e| Error::Frame(e.to_string()))?;
        let decode = started.elapsed();
        inspector.inspect_arrived(&raster.frame(), due, verdict)?;
        // What the inspector takes for waiting.
        verdict.stages.wait = verdict.stages.wait.saturating_sub(decode);
        Ok(decode)
    }

    /// Rows.
    pub fn height(&self) -> usize {
        self.pixels.frame().height()
    }

    /// Columns.
    pub fn width(&self) -> usize {
        self.pixels.frame().width()
    }

    /// Format.
    pub fn format(&self) -> Format {
        self.pixels.frame().format()
    }
}

impl Pixels {
    fn noise((width, height): (usize, usize), channels: usize) -> Self {
        let format = if channels == 1 { Format::Gray8 } else { Format::Rgb8 };
        let mut bytes = vec![0; height * width * channels];
        random::stream(0, "noise of a frame", 0).fill_bytes(&mut bytes);
        Self::Noise { bytes, height, width, format }
    }

    fn frame(&self) -> Frame<'_> {
        match self {
            Self::Image(raster) => raster.frame(),
            Self::Noise { bytes, height, width, format } => {
                let stride = width * format.pixel_bytes();
                Frame::new(bytes, *height, *width, stride, *format).expect("as many bytes as pixels")
            }
        }
    }
}
