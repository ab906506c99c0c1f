"""The same work as the benches, in PyTorch, on the same shapes: `torch_ops.py DEVICE PRECISION`.

Reads a name and `eager` or `graph` a line from stdin, measures that work and answers with one JSON
line: the median seconds of a call (null with the reason when it cannot be done). On CUDA, `graph` is a
captured and replayed CUDA graph. Driven by `cargo bench`; see benches/hot_paths/.
"""

import contextlib
import json
import statistics
import sys
import time

import torch
import torch.nn.functional as F
from torch import nn

DEVICE = sys.argv[1] if len(sys.argv) > 1 else "cpu"
PRECISION = sys.argv[2] if len(sys.argv) > 2 else "f32"
CUDA = DEVICE.startswith("cuda")
torch.set_default_device(DEVICE)
torch.backends.cuda.matmul.allow_tf32 = PRECISION == "tf32"
torch.backends.cudnn.allow_tf32 = PRECISION == "tf32"
HALF = {"f16": torch.float16, "bf16": torch.bfloat16}.get(PRECISION)
# Calls that are queued before they are waited for, as the benches do.
QUEUED = 10
WAITED_FOR = {"decompose", "train_step", "forward", "score"}

torch.manual_seed(0)
WINDOW = torch.exp(-((torch.arange(11.0) - 5) ** 2) / (2 * 1.5**2))
WINDOW = WINDOW / WINDOW.sum()


def blur(x, pad="replicate"):
    """Separable 11-tap Gaussian over every channel, same size."""
    c = x.shape[1]
    if pad:
        x = F.pad(x, (5, 5, 5, 5), mode=pad)
    x = F.conv2d(x, WINDOW.view(1, 1, 11, 1).repeat(c, 1, 1, 1), groups=c)
    return F.conv2d(x, WINDOW.view(1, 1, 1, 11).repeat(c, 1, 1, 1), groups=c)


def ssim_map(x, y, known=None):
    """SSIM map; `known` holds the means of y and y^2 when y does not change."""
    my, yy = known if known is not None else (blur(y), blur(y * y))
    mx, xx, xy = blur(x), blur(x * x), blur(x * y)
    c1, c2 = 0.01**2, 0.03**2
    top = (2 * mx * my + c1) * (2 * (xy - mx * my) + c2)
    return top / ((mx * mx + my * my + c1) * (xx - mx * mx + yy - my * my + c2))


def decompose():
    x, prior = torch.rand(1, 3, 128, 128), torch.rand(1, 3, 128, 128)
    background = prior.clone().requires_grad_(True)
    adam = torch.optim.Adam([background], lr=0.01, capturable=CUDA)
    known = (blur(prior), blur(prior * prior))

    def step():
        adam.zero_grad(set_to_none=not CUDA)
        loss = 1 - ssim_map(background, prior, known).mean() + 1e-5 * (x - background).abs().sum()
        loss.backward()
        adam.step()

    return step


def ssim_only():
    x, y = torch.rand(8, 3, 256, 256), torch.rand(8, 3, 256, 256)
    return lambda: ssim_map(x, y)


def ssim_gradient():
    x, y = torch.rand(8, 3, 256, 256, requires_grad=True), torch.rand(8, 3, 256, 256)
    grad = torch.rand(8, 3, 256, 256)

    def call():
        if x.grad is not None:
            x.grad.zero_()
        ssim_map(x, y).backward(grad)

    return call


def rgb_to_lab(rgb):
    c = rgb.float() / 255
    c = torch.where(c > 0.04045, ((c + 0.055) / 1.055) ** 2.4, c / 12.92)
    m = torch.tensor([[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]])
    t = (c @ m.T) / torch.tensor([0.95047, 1.0, 1.08883])
    f = torch.where(t > 0.008856, t.clamp_min(1e-6) ** (1 / 3), 7.787 * t + 16 / 116)
    return 116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])


def delta_e(rgb1, rgb2):
    (l1, a1, b1), (l2, a2, b2) = rgb_to_lab(rgb1), rgb_to_lab(rgb2)
    mean7 = (0.5 * (torch.hypot(a1, b1) + torch.hypot(a2, b2))) ** 7
    g = 1 + 0.5 * (1 - torch.sqrt(mean7 / (mean7 + 25.0**7)))
    a1, a2 = a1 * g, a2 * g
    c1, c2 = torch.hypot(a1, b1), torch.hypot(a2, b2)
    tau = 2 * torch.pi
    h1, h2 = torch.atan2(b1, a1) % tau, torch.atan2(b2, a2) % tau
    gray = c1 * c2 == 0
    d = h2 - h1
    dh = torch.where(d > torch.pi, d - tau, torch.where(d < -torch.pi, d + tau, d))
    dh = torch.where(gray, torch.zeros_like(dh), dh)
    d_hue = 2 * torch.sqrt(c1 * c2) * torch.sin(dh / 2)
    l, c, s = (l1 + l2) / 2, (c1 + c2) / 2, h1 + h2
    h = torch.where(d.abs() > torch.pi, torch.where(s < tau, s / 2 + torch.pi, s / 2 - torch.pi), s / 2)
    h = torch.where(gray, s, h)
    rad = torch.pi / 180
    t = 1 - 0.17 * torch.cos(h - 30 * rad) + 0.24 * torch.cos(2 * h) + 0.32 * torch.cos(3 * h + 6 * rad)
    t = t - 0.20 * torch.cos(4 * h - 63 * rad)
    rotation = 60 * rad * torch.exp(-(((h / rad - 275) / 25) ** 2))
    c7 = c**7
    rt = -torch.sin(rotation) * 2 * torch.sqrt(c7 / (c7 + 25.0**7))
    x = (l2 - l1) / (1 + 0.015 * (l - 50) ** 2 / torch.sqrt(20 + (l - 50) ** 2))
    y = (c2 - c1) / (1 + 0.045 * c)
    z = d_hue / (1 + 0.015 * c * t)
    return torch.sqrt((x * x + y * y + z * z + rt * y * z).clamp_min(0))


def ciede2000():
    p, q = (torch.randint(0, 256, (16, 256, 256, 3), dtype=torch.uint8) for _ in range(2))
    return lambda: delta_e(p, q)


def cosine_nn():
    query = torch.rand(1024, 128)
    bank = torch.rand(1024, 800, 128).half()
    inverse = 1 / bank.float().norm(dim=2)

    def call():
        unit = (query / query.norm(dim=1, keepdim=True)).half()
        dots = torch.bmm(bank, unit.unsqueeze(2)).squeeze(2)
        return (dots.float() * inverse).max(dim=1)

    def widened():
        unit = query / query.norm(dim=1, keepdim=True)
        return (torch.bmm(bank.float(), unit.unsqueeze(2)).squeeze(2) * inverse).max(dim=1)

    return fastest(call, widened)


def fastest(*calls):
    """The variant that PyTorch does best."""
    def once(call):
        call()
        wait()
        start = time.perf_counter()
        call()
        wait()
        return time.perf_counter() - start

    return min(calls, key=once)


def knn():
    query, bank = torch.rand(784, 1024), torch.rand(16385, 1024)
    norms = (bank * bank).sum(dim=1)

    def product():
        return (norms - 2 * query @ bank.T).min(dim=1)

    return fastest(lambda: torch.cdist(query, bank).min(dim=1), product)


def autoencoder(channels_last):
    net = nn.Sequential(
        nn.Conv2d(3, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(64, 128, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Upsample(scale_factor=2), nn.Conv2d(128, 64, 3, padding=1), nn.ReLU(),
        nn.Upsample(scale_factor=2), nn.Conv2d(64, 3, 3, padding=1),
    )
    return net.to(memory_format=torch.channels_last) if channels_last else net


def layout(x, channels_last):
    return x.to(memory_format=torch.channels_last) if channels_last else x


def train_step(channels_last):
    net = autoencoder(channels_last)
    adam = torch.optim.Adam(net.parameters(), capturable=CUDA)
    x = layout(torch.rand(16, 3, 128, 128), channels_last)

    def step():
        adam.zero_grad(set_to_none=not CUDA)
        with rounded():
            loss = F.mse_loss(net(x), x)
        loss.backward()
        adam.step()

    return step


def forward(channels_last):
    net, x = autoencoder(channels_last), layout(torch.rand(1, 3, 128, 128), channels_last)

    def call():
        with torch.inference_mode(), rounded():
            net(x)

    return call


def rounded():
    """Convolutions in half precision when asked for."""
    return torch.autocast("cuda", dtype=HALF) if HALF else contextlib.nullcontext()


def elpv(widths=(3, 9, 27, 81), channels=3):
    """The default network of PAEDID."""
    encoder, decoder, last = [], [], channels
    for width in widths:
        encoder += [nn.Conv2d(last, width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
        tail = [] if last == channels and not decoder else [nn.ReLU()]
        decoder = [nn.Upsample(scale_factor=2), nn.Conv2d(width, last, 3, padding=1)] + tail + decoder
        last = width
    return nn.Sequential(*encoder), nn.Sequential(*decoder)


def score():
    """PAEDID on one image, from host to map on the host: 100 steps of decomposition."""
    encoder, decoder = elpv()
    bank = torch.rand(64, 80, 81)
    inverse = 1 / bank.norm(dim=2)
    image = torch.rand(1, 3, 128, 128, device="cpu")

    def call():
        x = image.to(DEVICE)
        with torch.inference_mode(), rounded():
            latent = encoder(x).float()
            query = latent.flatten(2)[0].T
            dots = torch.bmm(bank, query.unsqueeze(2)).squeeze(2) * inverse
            best = (dots / query.norm(dim=1, keepdim=True)).max(dim=1)
            worst = (1 - best.values).topk(32).indices
            query = query.clone()
            query[worst] = bank[worst, best.indices[worst]]
            prior = decoder(query.T.reshape(latent.shape)).float()
        prior = prior.clone()
        background = prior.clone().requires_grad_(True)
        adam = torch.optim.Adam([background], lr=0.02)
        known = (blur(prior), blur(prior * prior))
        for _ in range(100):
            adam.zero_grad()
            loss = 1 - ssim_map(background, prior, known).mean() + 1e-5 * (x - background).abs().sum()
            loss.backward()
            adam.step()
        return (x - background.detach()).abs().mean(dim=1).cpu()

    return call


WORK = {
    "decompose": decompose,
    "ssim_map": ssim_only,
    "ssim_gradient": ssim_gradient,
    "ciede2000": ciede2000,
    "cosine_nn": cosine_nn,
    "knn": knn,
    "train_step": lambda: fastest(train_step(False), train_step(True)),
    "forward": lambda: fastest(forward(False), forward(True)),
    "score": score,
}


def wait():
    if CUDA:
        torch.cuda.synchronize()


def captured(call):
    """The call as a CUDA graph."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            call()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    return graph.replay


def measure(call, calls, seconds=1.0):
    def once():
        before = time.perf_counter()
        for _ in range(calls):
            call()
        wait()
        return (time.perf_counter() - before) / calls

    once()
    times = []
    start = time.perf_counter()
    while len(times) < 5 or (time.perf_counter() - start < seconds and len(times) < 1000):
        times.append(once())
    return statistics.median(times)


def main():
    ready = {}
    settings = {"torch": torch.__version__, "threads": torch.get_num_threads(), "device": DEVICE, "precision": PRECISION}
    if CUDA:
        settings["gpu"] = torch.cuda.get_device_name(DEVICE)
    print(json.dumps(settings), flush=True)
    for line in sys.stdin:
        name, how = line.split()
        try:
            if (name, how) not in ready:
                call = WORK[name]()
                ready[name, how] = captured(call) if how == "graph" else call
            calls = 1 if name in WAITED_FOR or not CUDA else QUEUED
            answer = {"seconds": measure(ready[name, how], calls)}
        except Exception as e:  # one work that PyTorch cannot do leaves the others
            answer = {"seconds": None, "reason": str(e)}
        print(json.dumps(answer), flush=True)


main()
