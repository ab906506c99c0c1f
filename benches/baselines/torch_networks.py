"""Networks of LEA-Net in PyTorch, as torchvision writes them where it has them."""

import torch
from torch import nn


class Block(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True),
            nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs),
        )
        self.known = nn.Identity() if stride == 1 and inputs == outputs else nn.Sequential(
            nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
        )

    def forward(self, x):
        return torch.relu_(self.body(x) + self.known(x))


class ResNet(nn.Module):
    def __init__(self, channels, depth):
        super().__init__()
        stem = nn.Sequential(
            nn.Conv2d(channels, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(inplace=True)
        )
        stages, inputs = [stem], 64
        for i in range(4):
            blocks = [Block(inputs, 64 << i, 2 if i > 0 else 1)] + [Block(64 << i, 64 << i, 1) for _ in range(depth - 1)]
            stages.append(nn.Sequential(*([nn.MaxPool2d(3, 2, 1)] if i == 0 else []), *blocks))
            inputs = 64 << i
        self.stages = nn.ModuleList(stages)
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 1))

    def forward(self, x):
        for stage in self.stages:
            x = stage(x)
        return self.head(x)


def resnet18(channels):
    return ResNet(channels, 2)


def attention_resnet():
    return ResNet(1, 1)


class UNet(nn.Module):
    def __init__(self):
        super().__init__()
        widths, inputs = [64, 128, 256, 512, 512, 512, 512, 512], 1
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        for i, width in enumerate(widths):
            norm = [nn.BatchNorm2d(width)] if i > 0 else []
            self.down.append(nn.Sequential(nn.Conv2d(inputs, width, 4, 2, 1), *norm, nn.LeakyReLU(0.2, inplace=True)))
            inputs = width
        for width in widths[-2::-1]:
            self.up.append(nn.Sequential(nn.ConvTranspose2d(inputs, width, 2, 2), nn.BatchNorm2d(width), nn.ReLU(inplace=True)))
            inputs = 2 * width
        self.last = nn.Sequential(nn.ConvTranspose2d(inputs, 2, 2, 2), nn.Sigmoid())

    def forward(self, x):
        known = []
        for layer in self.down:
            x = layer(x)
            known.append(x)
        known.pop()
        for layer in self.up:
            x = torch.cat([layer(x), known.pop()], dim=1)
        return self.last(x)
