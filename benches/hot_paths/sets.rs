//! Every instruction set of the CPU side by side, in turns.

use hotad_engine::device::Device;
use hotad_kernels::peak::{Arithmetic, cpu_operations};
use hotad_kernels::simd::{self, Isa};

use crate::work::Work;
use crate::{ROUNDS, median, middle};

/// Prints what the cores can do at most with each set, then the time of every work, which is made for each: weights in fewer bits are
/// laid out for the set in use.
pub fn compare(make: impl Fn() -> Vec<Work>, device: &Device) {
    let sets = Isa::available();
    let row = |name: &str, cells: Vec<String>| println!("| {name} | {} |", cells.join(" | "));
    println!();
    row("work", sets.iter().map(|isa| isa.name().to_string()).collect());
    println!("|---|{}", "---|".repeat(sets.len()));
    let on = |isa: &Isa| simd::select(*isa).expect("the CPU has it");
    for arithmetic in Arithmetic::ALL {
        let cell = |isa: &Isa| {
            on(isa);
            cpu_operations(arithmetic).map_or("-".into(), |rate| format!("{:.0} G/s", rate / 1e9))
        };
        row(&format!("peak, {}", arithmetic.name()), sets.iter().map(cell).collect());
    }
    let made = |isa: &Isa| {
        on(isa);
        make()
    };
    let mut works: Vec<Vec<Work>> = sets.iter().map(made).collect();
    for number in 0..works[0].len() {
        let mut times = vec![Vec::new(); sets.len()];
        for _ in 0..ROUNDS {
            for ((isa, works), times) in sets.iter().zip(&mut works).zip(&mut times) {
                on(isa);
                times.push(median(&mut works[number], device));
            }
        }
        let Work { title, units, .. } = &works[0][number];
        let cell = |times: &mut Vec<f64>| format!("{:.3} ms", 1e3 * middle(times) / units);
        row(title, times.iter_mut().map(cell).collect());
    }
}
