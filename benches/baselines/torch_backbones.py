"""EfficientNet-Lite0's trunk up to block 10 and the scorers over its features, as users of PyTorch and faiss have them:
batch normalisation folded, weights random."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

ROWS = [(1, 3, 1, 1, 32, 16), (2, 3, 2, 6, 16, 24), (2, 5, 2, 6, 24, 40), (3, 3, 2, 6, 40, 80), (3, 5, 1, 6, 80, 112)]
CUTS = (4, 10)
SHAPE = (1, 3, 224, 224)
BANK = 2_000
PADIM = 100


class Same(nn.Conv2d):
    """A convolution with TensorFlow's SAME padding; sizes are even, so what is added is fixed by the stride."""

    def forward(self, x):
        k, s = self.kernel_size[0], self.stride[0]
        total = k - s if s > 1 else k - 1
        before = total // 2
        return F.conv2d(F.pad(x, (before, total - before) * 2), self.weight, self.bias, self.stride, 0, 1, self.groups)


class Block(nn.Module):
    def __init__(self, kernel, stride, expansion, inputs, outputs):
        super().__init__()
        wide = inputs * expansion
        expand = [nn.Conv2d(inputs, wide, 1), nn.ReLU6(inplace=True)] if expansion > 1 else []
        self.body = nn.Sequential(
            *expand, Same(wide, wide, kernel, stride, groups=wide), nn.ReLU6(inplace=True), nn.Conv2d(wide, outputs, 1)
        )
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x):
        return x + self.body(x) if self.residual else self.body(x)


class Trunk(nn.Module):
    """Images in 0..1 to the maps after blocks 4 and 10."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(Same(3, 32, 3, 2), nn.ReLU6(inplace=True))
        self.blocks = nn.ModuleList(
            Block(kernel, stride if i == 0 else 1, expansion, inputs if i == 0 else outputs, outputs)
            for repeats, kernel, stride, expansion, inputs, outputs in ROWS
            for i in range(repeats)
        )
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1))
        self.register_buffer("deviation", torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1))

    def forward(self, x):
        x, maps = self.stem((x - self.mean) / self.deviation), []
        for i, block in enumerate(self.blocks):
            x = block(x)
            if i in CUTS:
                maps.append(x)
        return tuple(maps)


def eager(channels_last, device):
    net = Trunk().eval().to(device)
    image = torch.rand(SHAPE, device=device)
    if channels_last:
        net, image = net.to(memory_format=torch.channels_last), image.contiguous(memory_format=torch.channels_last)

    def call():
        with torch.inference_mode():
            return net(image)

    return call


def joined(maps):
    """Neighbourhoods averaged, the second map enlarged to the first, one vector a patch."""
    fine, coarse = (F.avg_pool2d(m, 3, 1, 1) for m in maps)
    coarse = F.interpolate(coarse, size=fine.shape[-2:], mode="bilinear", align_corners=False)
    return torch.cat([fine, coarse], dim=1).flatten(2).transpose(1, 2).reshape(784, 152)


def smooth(distances):
    """The map at the image's size, blurred by a Gaussian of deviation 4."""
    weights = torch.exp(-(torch.arange(-16.0, 17.0) ** 2) / 32)
    weights = weights / weights.sum()
    big = F.interpolate(distances.view(1, 1, 28, 28), size=(224, 224), mode="bilinear", align_corners=False)
    big = F.conv2d(F.pad(big, (16, 16, 16, 16), mode="reflect"), weights.view(1, 1, -1, 1))
    return F.conv2d(big, weights.view(1, 1, 1, -1))


def patchcore(trunk):
    """Over a trunk that gives its maps; the search by PyTorch's distances."""
    bank = torch.rand(BANK, 152)

    def call():
        with torch.inference_mode():
            distances = torch.cdist(joined(trunk()), bank).min(dim=1).values
            return distances.max().item(), smooth(distances).cpu()

    return call


def patchcore_faiss(trunk):
    """Over a trunk of another runtime; the search by faiss."""
    import faiss

    index = faiss.IndexFlatL2(152)
    index.add(np.random.rand(BANK, 152).astype(np.float32))

    def call():
        with torch.inference_mode():
            vectors = joined([torch.from_numpy(np.asarray(m)) for m in trunk()])
            squares, _ = index.search(vectors.numpy(), 1)
            distances = torch.from_numpy(squares[:, 0]).sqrt()
            return distances.max().item(), smooth(distances)

    return call


def padim(trunk):
    """Mahalanobis distances by a batched product with the inverse covariances, as anomalib has them."""
    mean, inverse = torch.zeros(784, PADIM), torch.eye(PADIM).repeat(784, 1, 1)

    def call():
        with torch.inference_mode():
            delta = (joined(trunk())[:, :PADIM] - mean).unsqueeze(1)
            distances = (delta @ inverse * delta).sum(dim=(1, 2)).clamp_min(0).sqrt()
            return distances.max().item(), smooth(distances).cpu()

    return call
