//! Patches, principal components, fused features and PatchCore's scores.

use hotad_engine::tensor::Tensor;
use hotad_kernels::cosine_nn::BankData;
use hotad_kernels::device::Buffer;
use hotad_kernels::flat_bank::FlatBank;
use hotad_kernels::fusion::Projection;
use hotad_kernels::pool::{PoolOptions, avg_pool2d};
use hotad_kernels::resize::{Filter, resize};
use hotad_models::features::pca::{Components, Covariance, Pca};
use hotad_models::patchcore::nearest::{Nearest, nearest, reweighted};

use crate::case::{Case, Outputs, floats, nchw, outputs, wide};

pub fn run(case: &Case) -> Option<Outputs> {
    match case.op.as_str() {
        "patch_aggregate" => Some(aggregate(case)),
        "pca_fit" => Some(fit(case)),
        "pca_transform" => Some(transform(case)),
        "feature_fusion" => Some(fuse(case)),
        "patchcore_score" => Some(patchcore(case)),
        _ => None,
    }
}

fn aggregate(case: &Case) -> Outputs {
    let (x, shape) = case.map("x");
    let mut y = case.uninit(x.len());
    let window = PoolOptions { kernel: case.count("kernel"), stride: 1, padding: case.count("kernel") / 2 };
    avg_pool2d(&case.put(x), shape, window, case.flag("count_include_pad"), &mut y).expect("shapes fit");
    outputs([("patches", wide(&y))])
}

/// Principal components of rows that come in two parts.
fn components(case: &Case, x: &[f32], d: usize) -> Pca {
    let mut covariance = Covariance::new(&case.device);
    let half = x.len() / d / 2 * d;
    for part in [&x[..half], &x[half..]] {
        let rows = Tensor::new(part.to_vec(), &[part.len() / d, d]).expect("whole rows");
        covariance.add(&rows).expect("rows of one length");
    }
    covariance.pca(Components::Count(case.count("k"))).expect("enough elements")
}

fn fit(case: &Case) -> Outputs {
    let pca = components(case, &case.flat("x"), case.shape("x")[1]);
    outputs([
        ("mean", floats(&pca.mean)),
        ("components", floats(&pca.components)),
        ("explained_variance", floats(&pca.variance)),
    ])
}

fn transform(case: &Case) -> Outputs {
    let s = case.shape("x");
    let map = Projection::new(&case.flat("components"), &case.flat("mean"), &[s[1]], &case.device).expect("fits");
    let mut y = case.uninit(s[0] * map.outputs());
    map.run(&[(case.put(case.flat("x")).view(), [1, 1, s[0], s[1]])], (1, s[0]), &mut y).expect("shapes fit");
    outputs([("y", wide(&y))])
}

fn fuse(case: &Case) -> Outputs {
    let maps: Vec<(Buffer, [usize; 4])> = (0..case.count("maps"))
        .map(|i| {
            let (map, shape) = case.map(&format!("f{i}"));
            (case.put(map), shape)
        })
        .collect();
    let size = maps.iter().fold((0, 0), |(h, w), (_, s)| (h.max(s[1]), w.max(s[2])));
    let channels: Vec<usize> = maps.iter().map(|(_, s)| s[3]).collect();
    let fitted =
        (case.text("pca") == "fit").then(|| components(case, &joined(case, &maps, size), channels.iter().sum()));
    let (components, mean) = match &fitted {
        Some(pca) => (pca.components.clone(), pca.mean.clone()),
        None => (case.flat("components"), case.flat("mean")),
    };
    let map = Projection::new(&components, &mean, &channels, &case.device).expect("fits");
    let shape = [maps[0].1[0], size.0, size.1, map.outputs()];
    let mut y = case.uninit(shape.iter().product());
    let views: Vec<_> = maps.iter().map(|(map, shape)| (map.view(), *shape)).collect();
    map.run(&views, size, &mut y).expect("shapes fit");
    let variance = fitted.map_or(Vec::new(), |pca| floats(&pca.variance));
    outputs([("y", nchw(&y, shape)), ("explained_variance", variance)])
}

/// Rows of the joined map, which only the fit needs.
fn joined(case: &Case, maps: &[(Buffer, [usize; 4])], size: (usize, usize)) -> Vec<f32> {
    let resized: Vec<(Vec<f32>, usize)> = maps
        .iter()
        .map(|(map, s)| {
            let mut y = case.uninit(s[0] * size.0 * size.1 * s[3]);
            resize(map, *s, size, Filter::Bilinear, &mut y).expect("shapes fit");
            (crate::case::host(&y), s[3])
        })
        .collect();
    let pixels = resized[0].0.len() / resized[0].1;
    (0..pixels).flat_map(|p| resized.iter().flat_map(move |(v, c)| v[p * c..(p + 1) * c].to_vec())).collect()
}

fn patchcore(case: &Case) -> Outputs {
    let (q, d) = (case.shape("query"), case.shape("bank")[1]);
    let query = Tensor::from_buffer(case.put(case.flat("query")), q).expect("a shape");
    let bank = FlatBank::new(BankData::F32(case.flat("bank")), d, &case.device).expect("shapes fit");
    let Nearest { index, distance } = nearest(&query, &bank, 1).expect("shapes fit");
    let (index, distance) = (index.into_vec().expect("read"), distance.into_vec().expect("read"));
    let images = distance.chunks_exact(q[1]);
    let largest: Vec<f32> = images.clone().map(|p| p.iter().copied().fold(0.0, f32::max)).collect();
    let score = reweighted(&query, &bank, &distance, &index, case.count("b"));
    outputs([
        ("patch_score", floats(&distance)),
        ("index", index.iter().map(|i| f64::from(*i)).collect()),
        ("score_max", floats(&largest)),
        ("score", floats(&score.expect("shapes fit"))),
    ])
}
