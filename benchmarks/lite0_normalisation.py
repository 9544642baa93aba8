"""Which normalisation of pictures the pretrained EfficientNet-Lite0 was trained with, as far as its weights can tell.

    python benchmarks/lite0_normalisation.py

Every batch normalisation carries the mean of what passed through it in training. Pictures that are normalised as they
were then bring each layer near to its mean; others do not. The table gives, over all layers and channels, the root mean
square distance in deviations, for 24 crops of the two photographs that come with scikit-learn (a Chinese temple and a
flower), and the likeliest labels of the two whole photographs.

What it does not do: measure accuracy, which would take ImageNet's validation pictures.
"""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_sample_images
from torch import Tensor, nn

from sw2.domains.vision.efficientnet import EfficientNetLite
from sw2.domains.vision.weights import MEAN, SIZE, STD, ensure_weights, load_all

WAYS = {
    "the original's, and ours: 127, 128": ([MEAN] * 3, [STD] * 3),
    "timm's: 127.5, 127.5": ([127.5] * 3, [127.5] * 3),
    "the package's page: ImageNet's mean and deviation": ([123.675, 116.28, 103.53], [58.395, 57.12, 57.375]),
    "0 to 1": ([0.0] * 3, [255.0] * 3),
}
CROPS = 12


def crops(photograph: np.ndarray) -> list[np.ndarray]:
    """The largest square in the middle, then random ones, each at the network's size."""
    picture = Image.fromarray(photograph)
    width, height = picture.size
    draw = np.random.default_rng(0)
    side = min(width, height)
    corners = [((width - side) // 2, (height - side) // 2, side)]
    for _ in range(CROPS - 1):
        side = int(draw.integers(200, min(width, height)))
        corners.append((int(draw.integers(width - side + 1)), int(draw.integers(height - side + 1)), side))
    return [
        np.asarray(picture.resize((SIZE, SIZE), Image.Resampling.BICUBIC, (x, y, x + side, y + side)))
        for x, y, side in corners
    ]


def main() -> None:
    network = EfficientNetLite(EfficientNetLite.Config()).eval()
    load_all(network, ensure_weights(lambda question: print(question) or True))
    pictures = np.stack([crop for photograph in load_sample_images().images for crop in crops(photograph)])
    distances: list[float] = []

    def measure(norm: nn.BatchNorm2d, inputs: tuple[Tensor], output: Tensor) -> None:
        del output
        assert norm.running_mean is not None
        assert norm.running_var is not None
        away = (inputs[0].mean((0, 2, 3)) - norm.running_mean) / (norm.running_var + norm.eps).sqrt()
        distances.append(float(away.square().mean().sqrt()))

    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.register_forward_hook(measure)
    print(f"{'normalisation':<50} {'distance':>8}  labels of the whole photographs (ImageNet's numbers)")
    for name, (mean, deviation) in WAYS.items():
        distances.clear()
        normal = ((pictures - np.array(mean)) / np.array(deviation)).transpose(0, 3, 1, 2)
        with torch.inference_mode():
            chances = network({"image": torch.tensor(normal, dtype=torch.float32)})["logits"].softmax(-1)[::CROPS]
        best = ", ".join(f"{int(row.argmax())} ({float(row.max()):.2f})" for row in chances)
        print(f"{name:<50} {np.sqrt(np.mean(np.square(distances))):8.3f}  {best}")


if __name__ == "__main__":
    main()
