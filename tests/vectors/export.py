"""Outputs of torchvision's networks under weights that a formula gives, so that the weights need not be kept.

Run with torch, torchvision and safetensors installed: python tests/vectors/export.py
The formula is repeated in tests/common/formula.rs.
"""

import pathlib

import numpy as np
import torch
import torchvision
from safetensors.numpy import save_file


def hashed(n, name):
    """n numbers in -1..1: lowbias32 of the index under the FNV-1a hash of the name."""
    seed = np.uint32(2166136261)
    with np.errstate(over="ignore"):
        for byte in name.encode():
            seed = np.uint32((seed ^ np.uint32(byte)) * np.uint32(16777619))
        x = np.arange(n, dtype=np.uint32) ^ seed
        x = (x ^ (x >> np.uint32(16))) * np.uint32(0x7FEB352D)
        x = (x ^ (x >> np.uint32(15))) * np.uint32(0x846CA68B)
        x = x ^ (x >> np.uint32(16))
    return x.astype(np.float64) / 2.0**32 * 2.0 - 1.0


def value(name, shape):
    v = hashed(int(np.prod(shape)), name)
    if len(shape) > 1:
        v *= np.sqrt(6.0 / np.prod(shape[1:]))
    elif name.endswith("running_var") or name.endswith("weight"):
        v = 1.0 + 0.3 * v
    else:
        v *= 0.1
    return torch.from_numpy(v.astype(np.float32).reshape(shape))


def export(name, network, size):
    network = hash_weights(network)
    x = torch.from_numpy(hashed(3 * size * size, "image").astype(np.float32).reshape(1, 3, size, size))
    with torch.inference_mode():
        y = network(x.double())
    note = f"torchvision {torchvision.__version__}, torch {torch.__version__}, float64, {size}x{size} pixels"
    path = pathlib.Path(__file__).parent / f"{name}.safetensors"
    save_file({"logits": y[0].float().numpy()}, path, metadata={"note": note})
    print(path, float(y.abs().max()))


def hash_weights(network):
    state = network.state_dict()
    network.load_state_dict({k: value(k, v.shape) if v.is_floating_point() else v for k, v in state.items()})
    return network.double().eval()


def export_maps(networks, size):
    """Maps (NHWC) after some blocks of networks whose classifiers do not matter, in one file."""
    maps = {}
    for name, network, cuts in networks:
        modules = dict(hash_weights(network).named_modules())
        hooks = [
            modules[cut].register_forward_hook(
                lambda _, __, y, key=f"{name}.{cut}": maps.update({key: y[0].permute(1, 2, 0).float().contiguous().numpy()})
            )
            for cut in cuts
        ]
        x = torch.from_numpy(hashed(3 * size * size, "image").astype(np.float32).reshape(1, 3, size, size))
        with torch.inference_mode():
            network(x.double())
        [hook.remove() for hook in hooks]
    path = pathlib.Path(__file__).parent / "trunks.safetensors"
    save_file(maps, path, metadata={"note": f"torchvision {torchvision.__version__}, float64, {size}x{size} pixels"})
    print(path, {k: v.shape for k, v in maps.items()})


export("resnet18", torchvision.models.resnet18(), 64)
export("resnet50", torchvision.models.resnet50(), 64)
export("vgg16", torchvision.models.vgg16(), 224)
export("mobilenet_v3_small", torchvision.models.mobilenet_v3_small(), 64)

models = torchvision.models
export_maps(
    [
        ("resnet34", models.resnet34(), ["layer2", "layer3"]),
        ("wide_resnet50_2", models.wide_resnet50_2(), ["layer2", "layer3"]),
        ("mobilenet_v2", models.mobilenet_v2(), ["features.6", "features.13", "features.18"]),
        ("mobilenet_v3_small", models.mobilenet_v3_small(), ["features.3", "features.8"]),
        ("mobilenet_v3_large", models.mobilenet_v3_large(), ["features.6", "features.12", "features.16"]),
    ],
    32,
)
