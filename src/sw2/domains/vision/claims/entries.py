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
}
