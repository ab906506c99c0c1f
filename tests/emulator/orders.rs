//! The order in which threads and blocks take turns changes no byte.

use hotad_kernels::device::emulator::{Order, Settings};
use hotad_kernels::device::{Device, Precision};

use crate::{bodies, body, cases, open};

/// Sums over blocks and warps, tiles in shared memory, running minima, choices by rank, tensor cores.
const BODIES: [(&str, Precision); 4] = [
    ("similarity in a large window", Precision::F32),
    ("location-wise neighbours", Precision::F32),
    ("background prior", Precision::F32),
    ("prepared convolutions", Precision::F16),
];

/// All results as bits.
fn results(order: Order) -> Option<Vec<Vec<u32>>> {
    let gpu = open(&Settings { order, ..Settings::default() })?;
    let run = |(name, precision): (&str, Precision)| {
        body(name)(&Device::Gpu(gpu.with_precision(precision).expect("tensor cores")))
    };
    let normalised = bodies::of_case(cases::named("batch_norm2d"), &Device::Gpu(gpu.clone()));
    let values = normalised.into_iter().chain(BODIES.into_iter().flat_map(run));
    Some(values.map(|(v, _)| v.into_iter().map(f32::to_bits).collect()).collect())
}

#[test]
fn threads_in_any_order_give_the_same_bytes() {
    let Some(forward) = results(Order::Forward) else { return };
    for order in [Order::Reversed, Order::Random(1)] {
        let found = results(order).expect("as before");
        assert!(found == forward, "{order:?} gives other bytes");
    }
}
