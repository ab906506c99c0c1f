"""Colour in PyTorch: sRGB to Lab, CIEDE2000."""

import functools

import torch


@functools.cache
def constants():
    """The matrix from linear sRGB to XYZ and the white point, on the default device, made once."""
    matrix = [[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]]
    return torch.tensor(matrix).T.contiguous(), torch.tensor([0.95047, 1.0, 1.08883])


def rgb_to_lab(c):
    """L, a, b of sRGB in 0..1, channels last."""
    c = torch.where(c > 0.04045, ((c + 0.055) / 1.055) ** 2.4, c / 12.92)
    matrix, white = constants()
    t = (c @ matrix) / white
    f = torch.where(t > 0.008856, t.clamp_min(1e-6) ** (1 / 3), 7.787 * t + 16 / 116)
    return 116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])


def delta_e(lab1, lab2):
    """CIEDE2000 between two triples of planes."""
    (l1, a1, b1), (l2, a2, b2) = lab1, lab2
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
