"""One image, from memory to its verdict, by hotad's PatchCore and by anomalib's with its default backbone, in turns:
`against_anomalib.py MODEL.safetensors IMAGE`, two threads each, with hotad's wheel, anomalib, ONNX Runtime and OpenVINO installed.

anomalib's Wide ResNet-50-2 has random weights and its bank as many random vectors as the model's, which is what timing
needs. Its image is resized and standardised inside of what is timed, as hotad's is. hotad's threads are kept awake (`awake=True`), as
ONNX Runtime's are by default, and asleep again before another's turn. Prints a Markdown table: the median of each over the rounds, and the
median of the rounds' ratios."""

import json
import statistics
import struct
import sys
import time
import warnings

import numpy as np
import torch
from anomalib.models.image.patchcore.torch_model import PatchcoreModel
from PIL import Image

import hotad

sys.path.insert(0, "benches/baselines")
from torch_peers import onnx, openvino  # noqa: E402

THREADS = 2
SIZE = 224
ROUNDS = 9
SECONDS = 1.0
# After so many seconds without a frame hotad's threads sleep.
PAUSE = 1.2


class AnomalibPatchCore(torch.nn.Module):
    """Images `[n, 3, h, w]` in 0..1 to scores and maps."""

    def __init__(self, vectors):
        super().__init__()
        self.model = PatchcoreModel(layers=["layer2", "layer3"], pre_trained=False).eval()
        self.model.memory_bank = torch.rand(vectors, 1536)
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1))
        self.register_buffer("deviation", torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1))

    def forward(self, x):
        x = torch.nn.functional.interpolate(x, size=(SIZE, SIZE), mode="bilinear")
        found = self.model((x - self.mean) / self.deviation)
        return found.pred_score, found.anomaly_map


def eager(vectors, frame):
    net = AnomalibPatchCore(vectors).to(memory_format=torch.channels_last)

    def call():
        with torch.inference_mode():
            x = torch.from_numpy(frame).permute(2, 0, 1).unsqueeze(0).float() / 255
            return [t.numpy() for t in net(x)]

    return call


def median(call):
    """Seconds of a call, the median over about a second of them."""
    call()
    times, start = [], time.perf_counter()
    while time.perf_counter() - start < SECONDS or len(times) < 3:
        before = time.perf_counter()
        call()
        times.append(time.perf_counter() - before)
    return statistics.median(times)


def awake(own, frame):
    """Seconds of an inspection, the median over about a second of them."""
    seconds = median(lambda: own.inspect(frame))
    time.sleep(PAUSE)
    return seconds


def main():
    warnings.filterwarnings("ignore")
    torch.set_num_threads(THREADS)
    model, image = sys.argv[1:]
    frame = np.ascontiguousarray(np.asarray(Image.open(image).convert("RGB")))
    own = hotad.Inspector(model, threads=THREADS, awake=True)
    vectors, shape = bank_size(model), (1, 3, *frame.shape[:2])
    peers = {
        "anomalib, PyTorch": eager(vectors, frame),
        "anomalib, ONNX Runtime": onnx(lambda: AnomalibPatchCore(vectors), shape),
        "anomalib, OpenVINO in f32": openvino(lambda: AnomalibPatchCore(vectors), shape),
        "anomalib, OpenVINO in its default precision": openvino(lambda: AnomalibPatchCore(vectors), shape, None),
    }
    print(f"bank of {vectors} vectors, frame of {frame.shape[1]} x {frame.shape[0]}, {THREADS} threads, torch {torch.__version__}\n")
    print("| | ms | hotad, ms | ratio |\n|---|---|---|---|")
    for name, call in peers.items():
        rounds = [(median(call), awake(own, frame)) for _ in range(ROUNDS)]
        theirs, ours = (statistics.median(column) for column in zip(*rounds))
        ratio = statistics.median(a / b for a, b in rounds)
        print(f"| {name} | {1e3 * theirs:.0f} | {1e3 * ours:.2f} | {ratio:.1f}x |", flush=True)


def bank_size(model):
    """Vectors of the memory bank, from the header of the model file."""
    with open(model, "rb") as file:
        length = struct.unpack("<Q", file.read(8))[0]
        return json.loads(file.read(length))["bank"]["shape"][0]


if __name__ == "__main__":
    main()
