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
}
