"""What the lecture claims, what is expected, and by which rule it is judged: strings only, written before any run.

Not here: the experiments, which are named by their strings and imported when one is run.
"""

from __future__ import annotations

from sw2.core.domain import ClaimEntry

__all__ = ["CLAIMS"]

CLAIMS = {
    "chain-rule": ClaimEntry(
        target="sw2.domains.vision.claims.chain_rule:run",
        question="Are the gradients that autograd finds those of the chain rule, written out by hand?",
        expected="Equal gradients of every weight, and the same losses while both learn.",
        rule="Holds when every difference is at most 1e-6 of the largest gradient of its weights (of the loss, while "
        "both learn), else does not hold.",
        source="Rumelhart, Hinton and Williams 1986, doi:10.1038/323533a0",
        minutes=2.0,
        full_minutes=5.0,
    ),
    "vanishing-gradients": ClaimEntry(
        target="sw2.domains.vision.claims.vanishing:run",
        question="Do gradients vanish or explode with depth as the theory says, by one factor a layer?",
        expected="A factor a layer of the weights' variance times the number of inputs, half of it with ReLU.",
        rule="Holds when the 95 % interval of the factor (bootstrap over draws of the weights) lies within 2 % of the "
        "theory in every case; does not hold when it lies outside in any; else undecided.",
        source="Glorot and Bengio 2010; He et al. 2015, arXiv:1502.01852; Hanin 2018, arXiv:1801.03744",
        minutes=3.0,
        full_minutes=30.0,
    ),
    "xavier-he": ClaimEntry(
        target="sw2.domains.vision.claims.initial:run",
        question="Do deep ReLU networks learn from He's initial weights where Xavier's let them stand still?",
        expected="No difference in shallow networks; in the deepest, He's learn and Xavier's do not.",
        rule="Holds when the 95 % interval of the gain of He over Xavier in held-out accuracy at the largest depth "
        "(paired, over examples in the quick form and over seeds in the full one) lies above 0; does not hold when it "
        "lies below; else undecided.",
        source="Glorot and Bengio 2010; He et al. 2015, arXiv:1502.01852",
        minutes=10.0,
        full_minutes=60.0,
    ),
    "batch-norm": ClaimEntry(
        target="sw2.domains.vision.claims.normalised:run",
        question="Does batch norm need fewer steps to a score, and does it bear higher rates?",
        expected="Fewer steps to 90 % held-out accuracy, each at its best rate, and a higher highest stable rate.",
        rule="Holds when both are so in every seed; does not hold when neither is in any; else undecided.",
        source="Ioffe and Szegedy 2015, arXiv:1502.03167",
        minutes=10.0,
        full_minutes=60.0,
    ),
    "sgd-adam": ClaimEntry(
        target="sw2.domains.vision.claims.optimisers:run",
        question="Does Adam go down faster than SGD, each at its best rate?",
        expected="A lower loss after as many steps.",
        rule="Holds when the 95 % interval of the loss that Adam saves (paired, over examples in the quick form and "
        "over seeds in the full one) lies above 0; does not hold when it lies below; else undecided.",
        source="Kingma and Ba 2014, arXiv:1412.6980",
        minutes=10.0,
        full_minutes=60.0,
    ),
    "dropout": ClaimEntry(
        target="sw2.domains.vision.claims.dropped:run",
        question="Does dropout help a wide network that learns from few digits?",
        expected="A higher held-out accuracy with half of the hidden values left out in training.",
        rule="Holds when the 95 % interval of its gain in held-out accuracy (paired, over examples in the quick form "
        "and over seeds in the full one) lies above 0; does not hold when it lies below; else undecided.",
        source="Srivastava et al. 2014, jmlr.org/papers/v15/srivastava14a.html",
        minutes=3.0,
        full_minutes=15.0,
    ),
    "averaging-models": ClaimEntry(
        target="sw2.domains.vision.claims.averaged:run",
        question="Does averaging two models make them better, and may it be their weights that are averaged?",
        expected="Averaged predictions of two runs beat one model; averaged weights do well within one run and badly "
        "across two.",
        rule="Holds when the 95 % intervals (paired, over examples in the quick form and over seeds in the full one) "
        "of two gains in held-out accuracy lie above 0: averaged predictions over one model, and the averaged weights "
        "of one run over those of two; does not hold when one lies below; else undecided.",
        source="Hansen and Salamon 1990; Izmailov et al. 2018, arXiv:1803.05407",
        minutes=3.0,
        full_minutes=15.0,
    ),
    "plain-residual": ClaimEntry(
        target="sw2.domains.vision.claims.deep:run",
        question="Do plain networks get worse with depth, in the loss on what they learn from, and residual ones not?",
        expected="A higher training loss of the deepest plain network than of the one before it; not of the residual.",
        rule="Holds when in every seed the deepest plain network ends with a higher training loss than the next "
        "shallower one, and the deepest residual network with a lower one than its next shallower, each at its best "
        "rate; does not hold when neither is so in any; else undecided.",
        source="He et al. 2015, arXiv:1512.03385",
        minutes=10.0,
        full_minutes=90.0,
        full_seeds=3,
    ),
    "transfer-labels": ClaimEntry(
        target="sw2.domains.vision.claims.transfer:run",
        question="How much are ImageNet's weights worth on other pictures, by the number of labels?",
        expected="A higher held-out accuracy with them than from scratch, at 1, 5 and 15 labels of each kind.",
        rule="Holds when the 95 % interval of the gain (paired, over pictures in the quick form and over splits in the "
        "full one) lies above 0 at each number of labels; does not hold when it lies below 0 at one; else undecided.",
        source="Esteva et al. 2017, doi:10.1038/nature21056; Kornblith et al. 2018, arXiv:1805.08974",
        minutes=10.0,
        full_minutes=90.0,
        full_seeds=10,
    ),
    "made-learned-features": ClaimEntry(
        target="sw2.domains.vision.claims.handmade:run",
        question="Are features that a network learned better than those that people made by hand?",
        expected="A higher held-out accuracy of a small network than of HOG and a support vector machine, with the "
        "most pictures.",
        rule="Holds when the 95 % interval of the network's gain with the most pictures (paired, over pictures in the "
        "quick form and over seeds in the full one) lies above 0; does not hold when it lies below; else undecided.",
        source="Dalal and Triggs 2005, doi:10.1109/CVPR.2005.177; Krizhevsky et al. 2012",
        minutes=10.0,
        full_minutes=90.0,
        full_seeds=3,
    ),
    "vit-resnet": ClaimEntry(
        target="sw2.domains.vision.claims.squares:run",
        question="Is a ViT behind a ResNet when pictures are few, and less so when they are many?",
        expected="A gap in held-out accuracy with few pictures that closes with many.",
        rule="Holds when the 95 % intervals (paired, over pictures in the quick form and over seeds in the full one) "
        "of two numbers lie above 0: how far the ResNet is ahead with the fewest pictures, and by how much that is "
        "less with the most; does not hold when one lies below; else undecided.",
        source="Dosovitskiy et al. 2020, arXiv:2010.11929",
        minutes=10.0,
        full_minutes=90.0,
        full_seeds=3,
    ),
}
