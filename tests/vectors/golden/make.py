"""Golden vectors that are part of the repository: operations by their definitions in float64, with NumPy alone.

python tests/vectors/golden/make.py writes the files beside it. The format is that of all golden vectors: `in.` and `out.` tensors in
NCHW, inputs rounded to float32 before anything is computed, and as metadata operation, parameters and tolerance.
"""

import json
import pathlib
import struct

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

FOLDER = pathlib.Path(__file__).parent
RANDOM = np.random.default_rng(14)
TYPES = {np.dtype("float32"): "F32", np.dtype("int64"): "I64"}


def normal(*shape):
    """Values that float32 holds exactly, in float64."""
    return RANDOM.standard_normal(shape).astype(np.float32).astype(np.float64)


def uniform(*shape):
    return RANDOM.random(shape, dtype=np.float32).astype(np.float64)


def write(op, inputs, outputs, rtol="0.00001", atol="0.000002", **params):
    """A safetensors file: the length of the header, the header as JSON, the tensors."""
    header, data = {"__metadata__": {"op": op, "params": json.dumps(params), "rtol": rtol, "atol": atol}}, b""
    named = [("in." + k, v) for k, v in inputs.items()] + [("out." + k, v) for k, v in outputs.items()]
    for name, value in named:
        value = np.atleast_1d(np.asarray(value))
        value = np.ascontiguousarray(value if value.dtype == np.int64 else value.astype(np.float32))
        end = len(data) + value.nbytes
        header[name] = {"dtype": TYPES[value.dtype], "shape": list(value.shape), "data_offsets": [len(data), end]}
        data += value.tobytes()
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    (FOLDER / f"{op}__numpy.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + data)


def element(op, y, derivative, **params):
    """A function of single elements and its derivative."""
    x, grad = 3 * normal(2, 3, 5, 7), normal(2, 3, 5, 7)
    write(op, {"x": x, "grad_out": grad}, {"y": y(x), "grad_x": grad * derivative(x)}, "0.00002", **params)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


element("relu", lambda x: np.maximum(x, 0), lambda x: x > 0)
element("leaky_relu", lambda x: np.where(x > 0, x, 0.2 * x), lambda x: np.where(x > 0, 1, 0.2), slope=0.2)
element("elu", lambda x: np.where(x > 0, x, np.expm1(x)), lambda x: np.where(x > 0, 1, np.exp(x)), alpha=1.0)
element("sigmoid", sigmoid, lambda x: sigmoid(x) * (1 - sigmoid(x)))
element("hardsigmoid", lambda x: np.clip(x + 3, 0, 6) / 6, lambda x: (abs(x) < 3) / 6)

# Mean errors.
x, y = normal(2, 3, 5, 7), normal(2, 3, 5, 7)
step = 2 * (x - y) / x.size
write("mse", {"x": x, "y": y}, {"loss": np.mean((x - y) ** 2), "grad_x": step, "grad_y": -step})
step = np.sign(x - y) / x.size
write("l1", {"x": x, "y": y}, {"loss": np.mean(abs(x - y)), "grad_x": step, "grad_y": -step})

# Softmax and the logarithm of its denominator, along the middle axis.
x, grad = normal(3, 9, 4), normal(3, 9, 4)
powers = np.exp(x)
sums = powers.sum(1, keepdims=True)
y = powers / sums
write("softmax", {"x": x, "grad_out": grad}, {"y": y, "grad_x": y * (grad - (grad * y).sum(1, keepdims=True))}, dim=1)
grad = normal(3, 4)
write("log_sum_exp", {"x": x, "grad_out": grad}, {"y": np.log(sums)[:, 0], "grad_x": y * grad[:, None]}, dim=1)

# Adam (Kingma and Ba 2015, algorithm 1).
p, g, path = normal(50), normal(4, 50), []
first, square, now = np.zeros(50), np.zeros(50), p
for t in range(1, 5):
    first = 0.9 * first + 0.1 * g[t - 1]
    square = 0.999 * square + 0.001 * g[t - 1] ** 2
    now = now - 0.01 * (first / (1 - 0.9**t)) / (np.sqrt(square / (1 - 0.999**t)) + 1e-8)
    path.append(now)
settings = {"lr": 0.01, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "weight_decay": 0.0, "steps": 4}
write("adam", {"p": p, "g": g}, {"p": np.stack(path), "m": first, "v": square}, **settings)

# A convolution of stride 2 with padding, and its three gradients: every tap is a product of matrices.
x, w, b = normal(2, 3, 9, 8), normal(5, 3, 3, 3), normal(5)
padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
y = np.zeros((2, 5, 5, 4)) + b[None, :, None, None]
grad, grad_padded, grad_w = normal(*y.shape), np.zeros_like(padded), np.zeros_like(w)
for r in range(3):
    for s in range(3):
        window = (slice(None), slice(None), slice(r, r + 9, 2), slice(s, s + 8, 2))
        seen = padded[window][:, :, :5, :4]
        y += np.einsum("ncij,oc->noij", seen, w[:, :, r, s])
        grad_w[:, :, r, s] = np.einsum("ncij,noij->oc", seen, grad)
        grad_padded[:, :, r : r + 9 : 2, s : s + 7 : 2] += np.einsum("noij,oc->ncij", grad, w[:, :, r, s])
outputs = {"y": y, "grad_x": grad_padded[:, :, 1:-1, 1:-1], "grad_w": grad_w, "grad_b": grad.sum((0, 2, 3))}
inputs = {"x": x, "w": w, "b": b, "grad_out": grad}
write("conv2d", inputs, outputs, "0.0001", "0.00002", stride=2, padding=1, dilation=1, groups=1)

# Gaussian blur, the edge pixel repeated in the mirror.
x = normal(2, 2, 11, 13)
taps = np.exp(-np.arange(-4, 5) ** 2 / (2 * 1.5**2))
taps /= taps.sum()
windows = sliding_window_view(np.pad(x, ((0, 0), (0, 0), (4, 4), (4, 4)), mode="symmetric"), (9, 9), (2, 3))
write("gaussian_blur", {"x": x}, {"y": windows @ taps @ taps}, sigma=1.5, radius=4, border="symmetric")

# SSIM with a Gaussian window of 11 inside the image (Wang et al. 2004, equation 13); its map alone.
x = uniform(1, 2, 17, 19)
y = np.clip(x + 0.1 * normal(1, 2, 17, 19), 0, 1).astype(np.float32).astype(np.float64)
taps = np.exp(-np.arange(-5, 6) ** 2 / (2 * 1.5**2))
taps /= taps.sum()


def mean(v):
    return sliding_window_view(v, (11, 11), (2, 3)) @ taps @ taps


mx, my = mean(x), mean(y)
vx, vy, cov = mean(x * x) - mx**2, mean(y * y) - my**2, mean(x * y) - mx * my
s = (2 * mx * my + 1e-4) * (2 * cov + 9e-4) / ((mx**2 + my**2 + 1e-4) * (vx + vy + 9e-4))
shape = {"window": "gaussian", "window_size": 11, "sigma": 1.5, "border": "valid"}
constants = {"sample_covariance": False, "k1": 0.01, "k2": 0.03, "data_range": 1.0}
write("ssim_mean", {"x": x, "y": y}, {"mean": s.mean((1, 2, 3))}, "0.0001", "0.00001", **shape, **constants)

# Nearest neighbours: by cosine at each location, and by Euclidean distance in one bank.
query, bank = normal(4, 3, 16), normal(20, 4, 3, 16)
cosines = (query * bank).sum(-1) / (np.linalg.norm(query, axis=-1) * np.linalg.norm(bank, axis=-1))
write("cosine_nn_location", {"query": query, "bank": bank}, {"index": cosines.argmax(0), "cosine": cosines.max(0)})
query, bank = normal(30, 24), normal(200, 24)
distance = np.sqrt(((query[:, None] - bank) ** 2).sum(-1))
order = np.argsort(distance, 1, kind="stable")[:, :5]
write("l2_knn", {"query": query, "bank": bank}, {"distance": np.take_along_axis(distance, order, 1), "index": order}, k=5)
