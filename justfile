# The commands of this repository: `just --list`.

# What a change must pass.
ci:
    .ci/run

# Format and lints.
lint:
    cargo fmt --all -- --check
    cargo clippy --release --workspace --all-targets --locked -- -D warnings

# The tests, or those of one file: `just test golden`. HOTAD_TEST_DEVICES names the devices.
test file="":
    cargo test --release --locked {{ if file == "" { "" } else { "--test " + file } }}

# The hot paths beside PyTorch, or those whose names contain a word: `just bench resnet18`.
bench word="":
    HOTAD_BENCH_TABLE=1 cargo bench --bench hot_paths -- {{word}}

# What the CUDA kernels are compiled to, counted without a GPU; needs NVRTC, ptxas and nvdisasm (docs/devices.md).
counts:
    "${HOTAD_PYTHON:-python3}" benches/nvidia/static --check

# What an NVIDIA machine needs for tests and benches, in the folder carry; `carry/run` there runs them.
pack:
    benches/nvidia/pack

# Golden vectors (NumPy), vectors of torchvision's networks and PyTorch's files (torch, torchvision, safetensors).
vectors:
    python3 tests/vectors/golden/make.py
    python3 tests/vectors/export.py
    python3 tests/vectors/weights/export.py

# docs/settings.md, from the declarations of the settings.
settings:
    HOTAD_WRITE_SETTINGS=1 cargo test --release --locked --test docs all_settings_are_listed

# docs/report.png, from the report of the demo; needs chromium.
screenshot:
    cargo run --release --locked -- demo --out target/demo
    chromium --headless --no-sandbox --hide-scrollbars --window-size=1200,1480 \
        --screenshot=docs/report.png "file://$PWD/target/demo/report/report.html"

# Documentation of all crates.
doc:
    RUSTDOCFLAGS="-D warnings" cargo doc --release --workspace --no-deps --locked
