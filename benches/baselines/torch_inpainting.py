"""The inpainting generator of I3AD in PyTorch: gated convolutions as one convolution that is split, as the public code
of free-form inpainting has them; self-attention by PyTorch's fused operator."""

import torch
import torch.nn.functional as F
from torch import nn


class Gated(nn.Module):
    def __init__(self, inputs, outputs, kernel=3, stride=1, dilation=1, up=False, features=F.elu):
        super().__init__()
        self.conv = nn.Conv2d(inputs, 2 * outputs, kernel, stride, kernel // 2 * dilation, dilation)
        self.up, self.features = up, features

    def forward(self, x):
        if self.up:
            x = F.interpolate(x, scale_factor=2, mode="nearest")
        features, gates = self.conv(x).chunk(2, dim=1)
        return self.features(features) * torch.sigmoid(gates)


def dilated(c):
    return [Gated(c, c, dilation=d) for d in (2, 4, 8, 16)]


def decoder(four, two, one, half):
    return [
        Gated(four, two, up=True), Gated(two, two), Gated(two, one, up=True), Gated(one, half),
        nn.Conv2d(half, 3, 3, 1, 1), nn.Tanh(),
    ]


class Generator(nn.Module):
    def __init__(self, c=48):
        super().__init__()
        half, one, two, four = c // 4, c // 2, c, 2 * c
        self.coarse = nn.Sequential(
            Gated(5, one, 5), Gated(one, two, stride=2), Gated(two, two), Gated(two, four, stride=2), Gated(four, four),
            Gated(four, four), *dilated(four), Gated(four, four), Gated(four, four), *decoder(four, two, one, half),
        )
        self.branch = nn.Sequential(
            Gated(3, one, 5), Gated(one, one, stride=2), Gated(one, two), Gated(two, two, stride=2), Gated(two, four),
            Gated(four, four), *dilated(four),
        )
        self.before = nn.Sequential(
            Gated(3, one, 5), Gated(one, one, stride=2), Gated(one, two), Gated(two, four, stride=2), Gated(four, four),
            Gated(four, four, features=F.relu),
        )
        self.f, self.g, self.h = nn.Conv2d(four, four // 8, 1), nn.Conv2d(four, four // 8, 1), nn.Conv2d(four, four, 1)
        self.gamma = nn.Parameter(torch.zeros(1))
        self.after = nn.Sequential(Gated(four, four), Gated(four, four))
        self.decoder = nn.Sequential(
            Gated(2 * four, four), Gated(four, four), *decoder(four, two, one, half)
        )

    def attention(self, x):
        def rows(conv):
            return conv(x).flatten(2).transpose(1, 2).unsqueeze(1)

        o = F.scaled_dot_product_attention(rows(self.g), rows(self.f), rows(self.h), scale=1.0)
        return self.gamma * o.squeeze(1).transpose(1, 2).view_as(x) + x

    def forward(self, known, mask):
        ones = torch.ones_like(mask)
        coarse = self.coarse(torch.cat([known * (1 - mask), ones, mask], dim=1))
        seen = coarse * mask + known * (1 - mask)
        attended = self.after(self.attention(self.before(seen)))
        return self.decoder(torch.cat([self.branch(seen), attended], dim=1))
