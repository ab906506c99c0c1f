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

import torch_backbones as backbones
import torch_inpainting as inpainting
import torch_networks as networks
import torch_patches as patches
import torch_peers as peers
from torch_colour import delta_e, rgb_to_lab

DEVICE = sys.argv[1] if len(sys.argv) > 1 else "cpu"
PRECISION = sys.argv[2] if len(sys.argv) > 2 else "f32"
CUDA = DEVICE.startswith("cuda")
torch.set_default_device(DEVICE)
torch.backends.cuda.matmul.allow_tf32 = PRECISION == "tf32"
torch.backends.cudnn.allow_tf32 = PRECISION == "tf32"
HALF = {"f16": torch.float16, "bf16": torch.bfloat16}.get(PRECISION)
# Seconds after which no call is repeated for the sake of a median.
LONG = 5.0
# Calls that are queued before they are waited for, as the benches do.
QUEUED = 10
WAITED_FOR = {"decompose", "train_step", "forward", "score", "lea_score"}
WAITED_FOR |= {"gated_forward", "gated_train", "i3ad_score"}
WAITED_FOR |= {"lite0_trunk", "patchcore_lite0", "padim_lite0"}
WAITED_FOR |= {"resnet18_forward", "resnet18_train", "unet_forward", "unet_train"}

# Works that ask for numbers on the host while they run, which a CUDA graph cannot hold.
NOT_CAPTURED = {"coreset", "score", "lea_score", "i3ad_score", "patchcore_lite0", "padim_lite0"}

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


def ciede2000():
    p, q = (torch.randint(0, 256, (16, 256, 256, 3), dtype=torch.uint8) for _ in range(2))
    return lambda: delta_e(rgb_to_lab(p.float() / 255), rgb_to_lab(q.float() / 255))


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


def knn(queries, vectors, d):
    query, bank = torch.rand(queries, d), torch.rand(vectors, d)
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


def network_forward(make, channels):
    """One image through a network, in the memory format that is faster."""
    def variant(channels_last):
        net = prepared(make(), channels_last).eval()
        x = layout(torch.rand(1, channels, 256, 256), channels_last)

        def call():
            with torch.inference_mode(), rounded():
                net(x)

        return call

    return fastest(variant(False), variant(True))


def prepared(net, channels_last):
    return net.to(memory_format=torch.channels_last) if channels_last else net


def network_train(make, channels, target, loss_of):
    """A training step of eight images, in the memory format that is faster."""
    def variant(channels_last):
        net = prepared(make(), channels_last).train()
        adam = torch.optim.Adam(net.parameters(), lr=1e-4, capturable=CUDA)
        x, y = layout(torch.rand(8, channels, 256, 256), channels_last), torch.rand(target)

        def step():
            adam.zero_grad(set_to_none=not CUDA)
            with rounded():
                loss = loss_of(net(x).float(), y)
            loss.backward()
            adam.step()

        return step

    return fastest(variant(False), variant(True))


def lea_score():
    """LEA-Net on one image, from host to map and probability on the host: ResNet-18, ResNet-based attention, point 3."""
    def variant(channels_last):
        unet, adn = prepared(networks.UNet(), channels_last).eval(), prepared(networks.resnet18(3), channels_last).eval()
        caan = prepared(networks.attention_resnet(), channels_last).eval()
        image = torch.rand(1, 256, 256, 3, device="cpu")
        mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])

        def call():
            rgb = image.to(DEVICE)
            with torch.inference_mode(), rounded():
                l, a, b = rgb_to_lab(rgb)
                ab = unet(layout(l.unsqueeze(1) / 100, channels_last)).float()
                other = (l, 255 * ab[:, 0] - 128, 255 * ab[:, 1] - 128)
                maps = (delta_e((l, a, b), other) / 100).clamp_max(1).unsqueeze(1)
                g = maps
                for stage in caan.stages[:3]:
                    g = stage(g)
                attention = torch.sigmoid(g.mean(dim=1, keepdim=True))
                x = layout(((rgb - mean) / deviation).permute(0, 3, 1, 2), channels_last)
                for point, stage in enumerate(adn.stages, 1):
                    x = stage(x)
                    if point == 3:
                        x = (1 + attention) * x
                logit = adn.head(x)
            return maps.cpu(), torch.sigmoid(logit.float()).cpu()

        return call

    return fastest(variant(False), variant(True))


def gated(channels_last, backward):
    """Two convolutions, ELU of one times the sigmoid of the other."""
    features, gates = (
        prepared(nn.Conv2d(192, 96, 3, 1, 4, 4), channels_last) for _ in range(2)
    )
    x = layout(torch.rand(1, 192, 64, 64), channels_last)
    target = layout(torch.rand(1, 96, 64, 64), channels_last)

    def forward():
        with torch.inference_mode(), rounded():
            F.elu(features(x)) * torch.sigmoid(gates(x))

    def both():
        seen = x.detach().requires_grad_(True)
        with rounded():
            y = F.elu(features(seen)) * torch.sigmoid(gates(seen))
        F.mse_loss(y.float(), target).backward()
        features.zero_grad()
        gates.zero_grad()

    return both if backward else forward


def i3ad_score(channels_last):
    """I3AD on one image, from host to map on the host: four checkerboards in one batch, then 9 more reconstructions."""
    net = prepared(inpainting.Generator(), channels_last).eval()
    image = torch.rand(1, 3, 256, 256, device="cpu")
    cells = (torch.arange(256) // 43) % 2
    own = cells[:, None] * 2 + cells[None, :]
    boards = torch.stack([(own == k).float() for k in range(4)]).unsqueeze(1)

    def call():
        with torch.inference_mode(), rounded():
            known = 2 * layout(image.to(DEVICE), channels_last) - 1
            made = net(known.expand(4, -1, -1, -1), boards).float()
            now = (made * boards).sum(dim=0, keepdim=True)
            for _ in range(9):
                unlike = 1 - ssim_map((known + 1) / 2, (now + 1) / 2).mean(dim=1, keepdim=True)
                mask = (unlike >= 1e-4).float()
                now = net(known, mask).float() * mask + known * (1 - mask)
            unlike = 1 - ssim_map((known + 1) / 2, (now + 1) / 2).mean(dim=1, keepdim=True)
        return unlike.cpu()

    return call


WORK = {
    "decompose": decompose,
    "ssim_map": ssim_only,
    "ssim_gradient": ssim_gradient,
    "ciede2000": ciede2000,
    "cosine_nn": cosine_nn,
    "knn": lambda: knn(784, 16_385, 1024),
    "knn_faiss": lambda: patches.knn_faiss(784, 16_385, 1024),
    "knn_lite": lambda: knn(784, 2_000, 152),
    "knn_lite_faiss": lambda: patches.knn_faiss(784, 2_000, 152),
    "knn_patches": lambda: knn(784, 13_328, 152),
    "knn_patches_faiss": lambda: patches.knn_faiss(784, 13_328, 152),
    "coreset": lambda: fastest(*patches.coreset()),
    "covariance": patches.covariance,
    "aupro": patches.aupro,
    "train_step": lambda: fastest(train_step(False), train_step(True)),
    "forward": lambda: fastest(forward(False), forward(True)),
    "score": score,
    "resnet18_forward": lambda: network_forward(lambda: networks.resnet18(3), 3),
    "resnet18_train": lambda: network_train(
        lambda: networks.resnet18(3), 3, (8, 1), F.binary_cross_entropy_with_logits
    ),
    "unet_forward": lambda: network_forward(networks.UNet, 1),
    "unet_train": lambda: network_train(networks.UNet, 1, (8, 2, 256, 256), F.mse_loss),
    "lea_score": lea_score,
    "gated_forward": lambda: fastest(gated(False, False), gated(True, False)),
    "gated_train": lambda: fastest(gated(False, True), gated(True, True)),
    "i3ad_score": lambda: fastest(i3ad_score(False), i3ad_score(True)),
    "lite0_trunk": lambda: fastest(backbones.eager(False, DEVICE), backbones.eager(True, DEVICE)),
    "patchcore_lite0": lambda: fastest(*(backbones.patchcore(backbones.eager(c, DEVICE)) for c in (False, True))),
    "patchcore_lite0_onnx": lambda: backbones.patchcore_faiss(peers.onnx(backbones.Trunk, backbones.SHAPE)),
    "patchcore_lite0_openvino": lambda: backbones.patchcore_faiss(peers.openvino(backbones.Trunk, backbones.SHAPE)),
    "padim_lite0": lambda: fastest(*(backbones.padim(backbones.eager(c, DEVICE)) for c in (False, True))),
}
WORK |= peers.works("forward", lambda: autoencoder(False), (1, 3, 128, 128))
WORK |= peers.works("resnet18_forward", lambda: networks.resnet18(3), (1, 3, 256, 256))
WORK |= peers.works("unet_forward", networks.UNet, (1, 1, 256, 256))
WORK |= peers.works("lite0_trunk", backbones.Trunk, backbones.SHAPE)


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


def measure(call, calls, seconds=0.2 if CUDA else 1.0):
    def once():
        before = time.perf_counter()
        for _ in range(calls):
            call()
        wait()
        return (time.perf_counter() - before) / calls

    once()
    times = []
    start = time.perf_counter()
    while (len(times) < 5 and time.perf_counter() - start < LONG) or (
        time.perf_counter() - start < seconds and len(times) < 1000
    ):
        times.append(once())
    return statistics.median(times)


def ready_call(name, how):
    """The call that a name stands for."""
    if how == "graph" and name in NOT_CAPTURED:
        raise RuntimeError("not captured")
    call = WORK[name]()
    return captured(call) if how == "graph" else call


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
                ready[name, how] = ready_call(name, how)
            calls = 1 if name in WAITED_FOR or not CUDA else QUEUED
            answer = {"seconds": measure(ready[name, how], calls)}
        except Exception as e:  # one work that PyTorch cannot do leaves the others
            answer = {"seconds": None, "reason": str(e)}
        print(json.dumps(answer), flush=True)


main()
