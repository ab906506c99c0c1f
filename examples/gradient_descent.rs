//! The engine without a method: a convolution learns, by the tape and Adam, to be the filter that another one is.
//!
//!     cargo run --release --example gradient_descent

use std::error::Error;

use hotad_engine::Activation;
use hotad_engine::device::Device;
use hotad_engine::ops::{ConvParams, conv2d, loss};
use hotad_engine::tape::backward;
use hotad_engine::tensor::Tensor;
use hotad_kernels::adam::{AdamOptions, adam};
use hotad_kernels::conv::ConvOptions;
use hotad_kernels::loss::Loss;

/// Steps of the optimiser.
const STEPS: u32 = 300;

/// A 3x3 filter of one channel over an image, with zeros beyond its border.
fn filtered(image: &Tensor, weight: &Tensor) -> hotad_engine::Result<Tensor> {
    let params = ConvParams { weight: weight.clone(), bias: None, activation: Activation::Identity };
    conv2d(image, &params, ConvOptions::same(3))
}

/// Prints the loss as it falls; returns the weights that were learned and those that were to be found.
pub fn run() -> Result<(Vec<f32>, Vec<f32>), Box<dyn Error>> {
    // Any image will do in which no filter is another one: 16 x 16 pixels, one channel.
    let pixels = (0..256u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 16) as u8 as f32 / 255.0).collect();
    let image = Tensor::new(pixels, &[1, 16, 16, 1])?;
    // Weights are output channels x rows x columns x input channels.
    let sobel = vec![-1.0, 0.0, 1.0, -2.0, 0.0, 2.0, -1.0, 0.0, 1.0];
    let wanted = filtered(&image, &Tensor::new(sobel.clone(), &[1, 3, 3, 1])?)?;

    let options = AdamOptions { lr: 0.05, ..AdamOptions::default() };
    let mut weight = Device::CPU.upload(vec![0.0f32; 9])?;
    let (mut mean, mut square) = (Device::CPU.zeros(9)?, Device::CPU.zeros(9)?);
    for step in 1..=STEPS {
        let leaf = Tensor::from_buffer(weight.duplicate()?, &[1, 3, 3, 1])?.leaf();
        let error = loss(Loss::Mse, &filtered(&image, &leaf)?, &wanted)?;
        let gradient = backward(&error)?.take(&leaf).ok_or("the loss depends on the weight")?;
        adam(&mut weight, &gradient, &mut mean, &mut square, &options, step)?;
        if step % 50 == 0 {
            println!("step {step}: squared error {}", error.item()?);
        }
    }
    let learned = weight.to_vec()?;
    println!("learned {learned:.3?}");
    Ok((learned, sobel))
}

#[allow(dead_code)] // tests/examples.rs calls `run`
fn main() -> Result<(), Box<dyn Error>> {
    run().map(drop)
}
