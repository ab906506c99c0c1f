//! Every instruction set of the CPU side by side, in turns.

use hotad_engine::device::Device;
use hotad_kernels::peak::{Arithmetic, cpu_operations};
use hotad_kernels::simd::{self, Isa};

use crate::work::Work;
use crate::{ROUNDS, median, middle};

/// Prints what the cores can do at most with each set, then the time of every work.
pub fn compare(works: &mut [Work], device: &Device) {
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
    for work in works {
        let mut times = vec![Vec::new(); sets.len()];
        for _ in 0..ROUNDS {
            for (isa, times) in sets.iter().zip(&mut times) {
                on(isa);
                times.push(median(work, device));
            }
        }
        let cell = |times: &mut Vec<f64>| format!("{:.3} ms", 1e3 * middle(times) / work.units);
        row(work.title, times.iter_mut().map(cell).collect());
    }
}
