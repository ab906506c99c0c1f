"""anomalib's PatchCore with its default backbone (Wide ResNet-50-2, random weights) and hotad's default bank, one image a call."""

import torch

from torch_peers import onnx, openvino

SHAPE = (1, 3, 224, 224)
BANK = 13_328


class Normalised(torch.nn.Module):
    """Images in 0..1 to the largest score and the map, as anomalib's own export has them."""

    def __init__(self):
        super().__init__()
        from anomalib.models.image.patchcore.torch_model import PatchcoreModel

        self.model = PatchcoreModel(layers=["layer2", "layer3"], pre_trained=False).eval()
        self.model.memory_bank = torch.rand(BANK, 1536)
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1))
        self.register_buffer("deviation", torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1))

    def forward(self, x):
        found = self.model((x - self.mean) / self.deviation)
        return found.pred_score, found.anomaly_map


def eager(channels_last, device):
    net = Normalised().to(device)
    if channels_last:
        net = net.to(memory_format=torch.channels_last)
    image = torch.rand(SHAPE, device="cpu")

    def call():
        with torch.inference_mode():
            score, heat = net(image.to(device))
            return score.cpu(), heat.cpu()

    return call


def works(name, device, fastest):
    """What the table calls it, in PyTorch and in the runtimes that anomalib exports to."""
    return {
        name: lambda: fastest(eager(False, device), eager(True, device)),
        f"{name}_onnx": lambda: onnx(Normalised, SHAPE),
        f"{name}_openvino": lambda: openvino(Normalised, SHAPE),
        f"{name}_openvino_default": lambda: openvino(Normalised, SHAPE, None),
    }
