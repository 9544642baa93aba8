"""Vision: programs that look at pictures.

What is asked: `image-classification`, a picture in, a label and the probability of each label out; and
`image-feature-extraction` (the folder `pretraining`, which reads by itself), a picture in, a vector out, learned from
pictures without labels; and `image-segmentation` (the folder `segmentation`, likewise), a picture with clicks in, a
mask out.

Shapes: B pictures, C channels (1 grey, 3 colour), H height, W width, S pixels a side after resizing, K labels.

Reading order: `task` (what is asked, baselines, judging), `prep` (a picture as numbers), `data` (folders, tables,
named sets; `stamps`), the networks by age (`lenet`, `googlenet`, `resnet`, `cells`, `efficientnet`, `vit`, `convnext`),
`augment` and `regularise`, `objective` (how they learn), `presets` (which settings, and why), `weights` (ImageNet's
knowledge), `families` and `folder` and `opening` (networks of `transformers`), `claims` (what is said of networks,
tried).
Measured results, and what did not work: README.md.
"""

from sw2.core.domain import DataEntry, Domain, FormatEntry, ModelEntry, ObjectiveEntry, TaskEntry, WeightsEntry
from sw2.domains.vision.claims.entries import CLAIMS

__all__ = ["DOMAIN"]

_OPERATIONS = "conv3x3, conv5x5, separable3x3, separable5x5, max3x3, mean3x3, identity"

DOMAIN = Domain(
    name="vision",
    summary="Programs that look at pictures.",
    extra="vision",
    tasks={
        "image-classification": TaskEntry(
            target="sw2.domains.vision.task:ImageClassification",
            recipe="sw2.domains.vision.presets:recipe",
            summary="Which label does a picture have?",
            models=("resnet", "lenet", "googlenet", "vit", "convnext", "cells", "efficientnet-lite0"),
            data="digits",
            demo_minutes=1.0,
            starts="sw2.domains.vision.presets:starts",
        ),
        "image-feature-extraction": TaskEntry(
            target="sw2.domains.vision.pretraining.task:ImageFeatureExtraction",
            recipe="sw2.domains.vision.pretraining.presets:recipe",
            summary="Which pictures are alike? Learned without labels.",
            models=("resnet", "vit", "convnext", "lenet", "efficientnet-lite0"),
            objectives=("contrastive", "masked-autoencoding"),
            data="digits",
        ),
        "image-segmentation": TaskEntry(
            target="sw2.domains.vision.segmentation.task:ImageSegmentation",
            recipe="sw2.domains.vision.segmentation.presets:recipe",
            summary="Which pixels belong to the thing that is clicked at?",
            models=("click-segmenter",),
            data="stamps",
        ),
    },
    models={
        "resnet": ModelEntry(
            target="sw2.domains.vision.resnet:ResNet",
            summary="Residual networks, small ones for pictures of 8 to 64 pixels first; plain ones to compare.",
            source="He et al. 2015, arXiv:1512.03385",
            space={
                "model.widths": "[16, 32, 64], [32, 64, 128], [48, 96, 192]",
                "model.blocks": "[1, 1, 1], [1, 2, 2], [2, 2, 2]",
                "model.stochastic_depth": "0.0, 0.1",
                "learn.gradient.optim.learning_rate": "1e-3..1.6e-2 log",
                "learn.label_smoothing": "0.0, 0.1",
            },
        ),
        "lenet": ModelEntry(
            target="sw2.domains.vision.lenet:LeNet",
            summary="The convolutional network that read postal codes.",
            source="LeCun et al. 1998, doi:10.1109/5.726791",
            space={
                "learn.gradient.batch_size": "32, 64, 128",
                "learn.gradient.optim.learning_rate": "5e-4..2e-2 log",
                "learn.gradient.optim.weight_decay": "0.0, 0.01, 0.1",
                "learn.augment.shift": "0, 1, 2",
                "learn.label_smoothing": "0.0, 0.1",
            },
        ),
        "googlenet": ModelEntry(
            target="sw2.domains.vision.googlenet:GoogLeNet",
            summary="Inception: several windows at once, with auxiliary heads in training.",
            source="Szegedy et al. 2014, arXiv:1409.4842",
        ),
        "vit": ModelEntry(
            target="sw2.domains.vision.vit:ViT",
            summary="A Transformer over the squares of a picture.",
            source="Dosovitskiy et al. 2020, arXiv:2010.11929",
            space={
                "model.depth": "2..8",
                "model.width": "48, 96, 192",
                "model.hidden": "192, 384, 768",
                "model.dropout": "0.0, 0.1",
                "learn.gradient.optim.learning_rate": "1e-3..1.6e-2 log",
            },
        ),
        "convnext": ModelEntry(
            target="sw2.domains.vision.convnext:ConvNeXt",
            summary="A convolutional network with the habits of a Transformer.",
            source="Liu et al. 2022, arXiv:2201.03545",
        ),
        "cells": ModelEntry(
            target="sw2.domains.vision.cells:CellNet",
            summary="One small cell, repeated; which cell is a setting, and all of them can share weights in a search.",
            source="Pham et al. 2018, arXiv:1802.03268",
            space={
                "model.cell.first": _OPERATIONS,
                "model.cell.second": _OPERATIONS,
                "model.cell.third": _OPERATIONS,
                "model.cell.second_from": "0, 1",
                "model.cell.third_from": "0, 1, 2",
            },
            shared="sw2.domains.vision.cells:SharedCellNet",
        ),
        "efficientnet-lite0": ModelEntry(
            target="sw2.domains.vision.efficientnet:EfficientNetLite",
            summary="Photographs, usually started from the weights of the same name.",
            source="Tan and Le 2019, arXiv:1905.11946, Lite variant",
        ),
        "click-segmenter": ModelEntry(
            target="sw2.domains.vision.segmentation.network:Segmenter",
            summary="An encoder that sees a picture once, and a light decoder that answers clicks with three masks.",
            source="Kirillov et al. 2023, arXiv:2304.02643",
        ),
    },
    objectives={
        "picture-classifier": ObjectiveEntry(
            target="sw2.domains.vision.objective:learn",
            config="sw2.domains.vision.objective:LearnConfig",
            summary="Cross entropy on augmented pictures, from scratch or from another program.",
        ),
        "contrastive": ObjectiveEntry(
            target="sw2.domains.vision.pretraining.contrastive:learn",
            config="sw2.domains.vision.pretraining.contrastive:ContrastiveConfig",
            summary="Two views of one picture are found among those of others.",
        ),
        "masked-autoencoding": ObjectiveEntry(
            target="sw2.domains.vision.pretraining.masked:learn",
            config="sw2.domains.vision.pretraining.masked:MaskedConfig",
            summary="Hidden squares of a picture are guessed from a quarter of them.",
        ),
        "clicks": ObjectiveEntry(
            target="sw2.domains.vision.segmentation.lesson:learn",
            config="sw2.domains.vision.segmentation.lesson:ClickConfig",
            summary="A click or a box, then clicks where the mask is wrong, several in one step.",
        ),
    },
    runtimes={
        "picture-classifier": "sw2.domains.vision.task:PictureClassifier",
        "picture-embedder": "sw2.domains.vision.pretraining.task:PictureEmbedder",
        "click-segmenter": "sw2.domains.vision.segmentation.task:ClickSegmenter",
    },
    data={
        "digits": DataEntry(
            task="image-classification",
            summary="1,797 hand-written digits of 8x8 pixels.",
            licence="CC BY 4.0",
            also=("image-feature-extraction",),
        ),
        "fashion-mnist": DataEntry(
            task="image-classification",
            summary="70,000 pieces of clothing of 28x28 pixels in ten classes.",
            licence="MIT",
            bytes=30_900_652,
            also=("image-feature-extraction",),
        ),
        "stamp-kinds": DataEntry(
            task="image-classification",
            summary="Some 460 drawings and cut-outs in colour of eleven kinds of things.",
            licence="GPL-2",
            bytes=161_000_000,
            also=("image-feature-extraction",),
        ),
        "stamps": DataEntry(
            task="image-segmentation",
            summary="Some 600 things cut out, pasted into photographs; held-out ones in other photographs.",
            licence="GPL-2; photographs BSD-3-Clause, CC BY and free ones",
            bytes=181_500_000,
        ),
    },
    formats={
        "huggingface-pictures": FormatEntry(
            target="sw2.domains.vision.opening:open_folder",
            summary="A picture classifier in a folder, as transformers has it: ViT, ResNet, ConvNeXt.",
            file="config.json",
            architectures=(
                "ViTForImageClassification",
                "ResNetForImageClassification",
                "ConvNextForImageClassification",
            ),
        )
    },
    weights={
        "efficientnet-lite0": WeightsEntry(
            target="sw2.domains.vision.presets:imagenet_program",
            task="image-classification",
            summary="EfficientNet-Lite0 as learned from ImageNet.",
            licence="Apache-2.0",
            bytes=17_400_000,
        )
    },
    claims=CLAIMS,
)
