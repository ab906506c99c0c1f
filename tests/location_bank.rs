//! The bank of patches against plain loops in f64: neighbourhoods, chosen entries, means.

use half::f16;
use hotad_kernels::cosine_nn::{BankData, LocationBank, Neighbourhood};
use hotad_kernels::device::View;

const ROWS: usize = 3;
const COLUMNS: usize = 4;
const LOCATIONS: usize = ROWS * COLUMNS;
const ENTRIES: usize = 5;
const DIM: usize = 6;
const IMAGES: usize = 2;

fn noise(n: usize, factor: f32) -> Vec<f32> {
    (0..n).map(|i| (i as f32 * factor).sin()).collect()
}

/// A bank with a zero vector, and queries of which one is zero.
fn data() -> (Vec<f32>, Vec<f32>) {
    let (mut bank, mut queries) = (noise(LOCATIONS * ENTRIES * DIM, 1.7), noise(IMAGES * LOCATIONS * DIM, 2.3));
    bank[7 * DIM..8 * DIM].fill(0.0);
    queries[..DIM].fill(0.0);
    (bank, queries)
}

fn bank() -> LocationBank {
    LocationBank::new(LOCATIONS, ENTRIES, DIM, BankData::F32(data().0)).expect("shapes fit")
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    let norms = dot(a, a).sqrt() * dot(b, b).sqrt();
    if norms > 0.0 { dot(a, b) / norms } else { 0.0 }
}

#[test]
fn the_nearest_is_sought_near_the_location_among_chosen_entries() {
    let (vectors, queries) = data();
    let some: Vec<u32> = (0..IMAGES * ENTRIES).map(|i| u32::from(i % 3 != 1)).collect();
    for reach in 0..=4_usize {
        for among in [None, Some(&some)] {
            let (mut index, mut found) = (vec![0; IMAGES * LOCATIONS], vec![0.0; IMAGES * LOCATIONS]);
            let near = Neighbourhood { columns: COLUMNS, reach };
            let chosen = among.map(View::from);
            bank().nearest_within(&queries, (near, chosen), &mut index, &mut found).expect("shapes fit");
            for at in 0..IMAGES * LOCATIONS {
                let (image, location) = (at / LOCATIONS, at % LOCATIONS);
                let mut best = (-2.0, 0);
                for vector in 0..LOCATIONS * ENTRIES {
                    let (other, entry) = (vector / ENTRIES, vector % ENTRIES);
                    let close = (other / COLUMNS).abs_diff(location / COLUMNS) <= reach
                        && (other % COLUMNS).abs_diff(location % COLUMNS) <= reach;
                    if close && among.is_none_or(|among| among[image * ENTRIES + entry] != 0) {
                        let one = cosine(&queries[at * DIM..][..DIM], &vectors[vector * DIM..][..DIM]);
                        if one > best.0 {
                            best = (one, vector);
                        }
                    }
                }
                let place = format!("reach {reach}, {among:?}, image {image}, location {location}");
                assert_eq!(index[at] as usize, best.1, "{place}");
                assert!((f64::from(found[at]) - best.0).abs() < 1e-6, "{place}: {} for {}", found[at], best.0);
            }
        }
    }
}

/// What each location finds by itself, searched one by one and in order, is to the bit what a search of all of them finds.
#[test]
fn a_neighbourhood_has_the_nearest_of_its_locations_to_the_bit() {
    const WIDE: usize = 81;
    let vectors: Vec<f16> = noise(LOCATIONS * ENTRIES * WIDE, 1.7).into_iter().map(f16::from_f32).collect();
    let queries = noise(IMAGES * LOCATIONS * WIDE, 2.3);
    let bank = |data| LocationBank::new(LOCATIONS, ENTRIES, WIDE, BankData::F16(data)).expect("shapes fit");
    let search = |bank: LocationBank, near| {
        let (mut index, mut found) = (vec![0; IMAGES * LOCATIONS], vec![0.0; IMAGES * LOCATIONS]);
        bank.nearest_within(&queries, (near, None), &mut index, &mut found).expect("shapes fit");
        (index, found)
    };
    // The vectors of one location everywhere: what each query finds there.
    let alone: Vec<_> =
        vectors.chunks(ENTRIES * WIDE).map(|of| search(bank(of.repeat(LOCATIONS)), Neighbourhood::OWN)).collect();
    for reach in [1, 2, 4_usize] {
        let (index, found) = search(bank(vectors.clone()), Neighbourhood { columns: COLUMNS, reach });
        for at in 0..IMAGES * LOCATIONS {
            let location = at % LOCATIONS;
            let close = |other: &usize| {
                (other / COLUMNS).abs_diff(location / COLUMNS) <= reach
                    && (other % COLUMNS).abs_diff(location % COLUMNS) <= reach
            };
            let first_of_the_largest = |best: (u32, f32), other: usize| {
                let (index, cosine) = (alone[other].0[at] as usize % ENTRIES + other * ENTRIES, alone[other].1[at]);
                if cosine > best.1 { (index as u32, cosine) } else { best }
            };
            let want = (0..LOCATIONS).filter(close).fold((0, f32::NEG_INFINITY), first_of_the_largest);
            assert_eq!((index[at], found[at].to_bits()), (want.0, want.1.to_bits()), "reach {reach}, {at}");
        }
    }
}

#[test]
fn means_are_over_locations_and_zero_vectors_are_counted() {
    let (vectors, queries) = data();
    let mut means = vec![f32::NAN; IMAGES * ENTRIES];
    bank().mean_cosines(&queries, &mut means).expect("shapes fit");
    for (at, mean) in means.iter().enumerate() {
        let (image, entry) = (at / ENTRIES, at % ENTRIES);
        let one = |location: usize| {
            let query = &queries[(image * LOCATIONS + location) * DIM..][..DIM];
            cosine(query, &vectors[(location * ENTRIES + entry) * DIM..][..DIM])
        };
        let want = (0..LOCATIONS).map(one).sum::<f64>() / LOCATIONS as f64;
        assert!((f64::from(*mean) - want).abs() < 1e-6, "{at}: {mean} for {want}");
    }
    assert_eq!(bank().zeros(), 1);
}

#[test]
fn what_does_not_fit_is_refused() {
    let (queries, mut index, mut cosine) = (data().1, vec![0; IMAGES * LOCATIONS], vec![0.0; IMAGES * LOCATIONS]);
    let mut refusal = |columns, among: Option<&Vec<u32>>| {
        let near = Neighbourhood { columns, reach: 1 };
        let found = bank().nearest_within(&queries, (near, among.map(View::from)), &mut index, &mut cosine);
        found.expect_err("refused").to_string()
    };
    assert!(refusal(5, None).contains("12 locations are no rows of 5"));
    assert!(refusal(0, None).contains("no rows of 0"));
    assert!(refusal(4, Some(&vec![1; 3])).contains("among"));
}
