use hotad_kernels::covariance::moments;
use hotad_kernels::device::Device;
use hotad_kernels::dropout::dropout;
use hotad_kernels::fusion::Projection;
use hotad_kernels::noise::add_noise;
use hotad_kernels::resize::{Filter, resize_add};
use hotad_kernels::rows::copy_range;

use super::{Results, host, noise, put, uninit};

/// Relative to the largest value; sums of up to a few hundred terms in another order.
const CLOSE: f32 = 2e-5;

fn len(shape: [usize; 4]) -> usize {
    shape.iter().product()
}

/// Maps of one size, of several, and none of the largest rows and columns.
pub fn fusion(device: &Device) -> Results {
    let mut out = Results::new();
    let cases: [(&[[usize; 4]], usize); 3] = [
        (&[[1, 5, 7, 3]], 2),
        (&[[2, 9, 6, 17], [2, 5, 3, 33], [2, 1, 1, 4]], 19),
        (&[[1, 9, 4, 5], [1, 4, 11, 6]], 7),
    ];
    for (shapes, k) in cases {
        let channels: Vec<usize> = shapes.iter().map(|s| s[3]).collect();
        let c: usize = channels.iter().sum();
        let map = Projection::new(&noise(k * c, 1), &noise(c, 2), &channels, device).expect("fits");
        let maps: Vec<_> = shapes.iter().map(|s| put(device, noise(len(*s), 3))).collect();
        let views: Vec<_> = maps.iter().zip(shapes).map(|(m, s)| (m.view(), *s)).collect();
        let size = shapes.iter().fold((0, 0), |(h, w), s| (h.max(s[1]), w.max(s[2])));
        let mut y = uninit(device, shapes[0][0] * size.0 * size.1 * k);
        map.run(&views, size, &mut y).expect("shapes fit");
        out.push((host(&y), CLOSE));
    }
    let mut y = put(device, noise(2 * 7 * 5 * 3, 4));
    resize_add(&put(device, noise(2 * 3 * 4 * 3, 5)), [2, 3, 4, 3], (7, 5), Filter::Bilinear, &mut y).expect("fits");
    out.push((host(&y), CLOSE));
    out
}

pub fn covariance(device: &Device) -> Results {
    let mut out = Results::new();
    for (n, d) in [(1, 1), (77, 5), (130, 67)] {
        let (x, shift) = (put(device, noise(n * d, 1)), put(device, noise(d, 2)));
        let (sums, products) = moments(&x, &shift, device).expect("whole rows");
        out.extend([(host(&sums), CLOSE), (host(&products), CLOSE)]);
    }
    out
}

pub fn noisy(device: &Device) -> Results {
    let mut x = put(device, noise(4099, 1));
    add_noise(&mut x, 0.5, 7).expect("few values");
    let mut y = put(device, noise(300, 2));
    copy_range(&x, 1000, &mut y, 17, 257).expect("inside");
    let mut dropped = put(device, noise(1000, 5));
    dropout(&mut dropped, 0.3, 77).expect("a probability");
    // Logarithm and cosine are the device's own.
    vec![(host(&x), 1e-4), (host(&y), 1e-4), (host(&dropped), CLOSE)]
}
