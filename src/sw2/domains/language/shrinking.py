"""A decoder in 4 or 8 bits: which of its weights, rounded how, seen on which text.

Every matrix of the blocks and of recall gets the bits that are asked for. The embedding, and the head where it is
another matrix, get 8 in either case: together with the softmax they turn small errors into wrong words, and the kernels
read the embedding row by row. Norms, biases, embedded places and the shares of recall stay as they are.

    rtn     to nearest between the least and the largest number of each group, as llama.cpp rounds
    fit     scale and minimum of each group by least squares; no text is needed
    gptq    the same weighted by the inputs, and the errors of earlier columns made good in later ones

Notable: GPTQ walks through the network in the order of use. The inputs of each matrix are those that come out of all
matrices before it as they are *after* rounding, so that later ones also make good what earlier ones changed. Inputs
are kept for one block only, whatever the depth.

Text to calibrate on: rows of documents drawn from the training split by the seed, divided as in training: documents in
one row do not see each other.

Sources: Frantar et al. 2022, https://arxiv.org/abs/2210.17323; see `parts.layers.calibrated`.

What it does not do: bits that differ from layer to layer; learning again after rounding.

Shapes: B rows · T tokens · D width · C columns of a matrix
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn

from sw2.base.config import replace
from sw2.base.errors import DataError, ProgramError, UsageError
from sw2.base.seed import generator
from sw2.core.data import Split
from sw2.core.model import Batch
from sw2.domains.language.decoder import KEPT, Decoder
from sw2.parts.layers.calibrated import fit, gptq
from sw2.parts.layers.packed import Bits, Packed, can_pack, pack, unpack

__all__ = ["calibration_rows", "check", "methods", "shrink"]

_METHODS: Final[Mapping[str, str]] = {
    "gptq": "errors of earlier columns made good in later ones, calibrated on training text",
    "fit": "the scale of each group by least squares",
    "rtn": "each number to the nearest, as llama.cpp rounds",
}

_TOKENS: Final = 32_768
"""How much text is looked at; GPTQ's paper takes eight times as much for models a thousand times as large."""
_LONGEST_ROW: Final = 512
_ROWS_AT_ONCE: Final = 8


def methods(bits: int) -> Mapping[str, str]:
    """The ways to round, each with one line; the best one first.

    In 8 bits they cannot be told apart by their scores, and the plain one needs no time.
    """
    names = ("gptq", "fit", "rtn") if bits == 4 else ("rtn", "fit", "gptq")
    return {name: _METHODS[name] for name in names}


def check(net: Decoder, bits: int) -> None:
    """Complain about bits that a network cannot be brought to.

    Raises:
        UsageError: they are neither 4 nor 8.
        ProgramError: the network has as few bits already.
    """
    if bits not in (4, 8):
        raise UsageError("Weights cannot be kept in so many bits.", wanted="--bits 8 or 4", got=bits)
    config = net.config
    if net.packed and (config.matrix_bits or 8) <= bits:
        raise ProgramError(
            "This program has as few bits already.",
            wanted=f"weights of more than {bits} bits",
            got=f"matrices of {config.matrix_bits or 32} bits, an embedding of {config.embedding_bits or 32}",
            do="Shrink the program that it was made from: rounding twice loses twice.",
        )


def calibration_rows(
    encode: Callable[[Split], Iterator[np.ndarray]], examples: Split, context: int, seed: int
) -> list[Batch]:
    """Rows of training text: "tokens" and "documents", int64 [B, T].

    Args:
        encode: documents to their tokens, int32 [T] each.
        examples: to draw from.
        context: of the network.
        seed: of the draw.

    Raises:
        DataError: there is less than one row of text.
    """
    length = min(context, _LONGEST_ROW)
    rows = max(1, _TOKENS // length)
    tokens: list[np.ndarray] = []
    documents: list[np.ndarray] = []
    found = 0
    for number in torch.randperm(len(examples), generator=generator(seed, "calibration")).tolist():
        (document,) = encode([examples[number]])
        tokens.append(document)
        documents.append(np.full(len(document), len(documents)))
        found += len(document)
        if found >= rows * length:
            break
    rows = min(rows, found // length)
    if not rows:
        raise DataError(
            "There is too little text to calibrate on.",
            wanted=f"at least one row of {length} tokens",
            got=f"{found} tokens",
            do="Add text, or take a method that needs none: --method fit.",
        )
    whole = {
        name: torch.from_numpy(np.concatenate(parts)[: rows * length].astype(np.int64)).view(rows, length)
        for name, parts in (("tokens", tokens), ("documents", documents))
    }
    return [
        {name: tensor[begin : begin + _ROWS_AT_ONCE] for name, tensor in whole.items()}
        for begin in range(0, rows, _ROWS_AT_ONCE)
    ]


def shrink(net: Decoder, bits: Bits, method: str, rows: Callable[[], Sequence[Batch]]) -> Decoder:
    """A copy of `net` in fewer bits.

    Args:
        net: stays as it is.
        bits: of the matrices, fewer than they have; see above and `check`.
        method: one of `methods(bits)`.
        rows: called by methods that look at text; see `calibration_rows`.

    Raises:
        ProgramError: nothing in the network can be packed.
    """
    plain = copy.deepcopy(net.unpacked()).float().eval().requires_grad_(False)
    rounding: dict[str, Callable[[Tensor, Bits], Packed]] = {"rtn": pack, "fit": fit, "gptq": fit}
    walk = _Walk(plain, bits, rounding[method])
    with torch.no_grad():
        walk.round_outer()
        if method == "gptq":
            walk.calibrate(rows())
        else:
            walk.round_inner()
    return walk.result()


class _Walk:
    """Rounds a network matrix by matrix; what is rounded is computed with from then on."""

    def __init__(self, net: Decoder, bits: Bits, plain: Callable[[Tensor, Bits], Packed]) -> None:
        self.net, self.bits, self.plain = net, bits, plain
        self.packed: dict[str, Packed] = {}

    def round_outer(self) -> None:
        """The embedding and the head."""
        if can_pack(self.net.embedding):
            self.settle("embedding", self.net.embedding.weight, self.plain(self.net.embedding.weight, 8))
            if not self.net.config.tied:
                self.settle("head", self.net.head_weight, self.plain(self.net.head_weight, 8))

    def matrices(self, within: nn.Module, prefix: str) -> list[tuple[str, nn.Linear]]:
        """The linear layers to be rounded, by name, in the order of use."""
        return [
            (f"{prefix}{name}", module)
            for name, module in within.named_modules()
            if isinstance(module, nn.Linear) and can_pack(module) and f"{prefix}{name}" not in KEPT
        ]

    def round_inner(self) -> None:
        """All other matrices, each for itself."""
        for name, linear in self.matrices(self.net, ""):
            self.settle(name, linear.weight, self.plain(linear.weight, self.bits))

    def calibrate(self, rows: Sequence[Batch]) -> None:
        """All other matrices, each with the inputs that the ones before it give."""
        if self.net.config.recall:
            linear = self.net.recall
            if can_pack(linear):
                self.round_by_inputs("recall", linear, lambda: [self.net.entrance(batch) for batch in rows])
        states = [self.net.entrance(batch)[0] for batch in rows]
        for index, block in enumerate(self.net.blocks):
            run = functools.partial(self.through, block, states, rows)
            for name, linear in self.matrices(block, f"blocks.{index}."):
                self.round_by_inputs(name, linear, run)
            states = run()

    def through(self, block: nn.Module, states: Sequence[Tensor], rows: Sequence[Batch]) -> list[Tensor]:
        """What comes out of a block."""
        # Masks are as large as everything else together, and made anew in no time.
        views = (self.net.entrance(batch)[1:] for batch in rows)
        return [block(x_BTD, *view) for x_BTD, view in zip(states, views, strict=True)]

    def round_by_inputs(self, name: str, linear: nn.Linear, run: Callable[[], object]) -> None:
        """Round a layer by the products of the inputs that it gets during `run`."""
        gram_CC = torch.zeros(linear.in_features, linear.in_features)

        def add(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            del module
            flat_NC = inputs[0].flatten(0, -2).float()
            gram_CC.addmm_(flat_NC.T, flat_NC)

        handle = linear.register_forward_pre_hook(add)
        try:
            run()
        finally:
            handle.remove()
        self.settle(name, linear.weight, gptq(linear.weight, gram_CC, self.bits))

    def settle(self, name: str, weight: Tensor, packed: Packed) -> None:
        self.packed[name] = packed
        weight.copy_(unpack(packed))

    def result(self) -> Decoder:
        """The packed network."""
        if not self.packed:
            raise ProgramError(
                "Nothing in this program can be packed.",
                wanted="matrices with a multiple of 32 columns",
                got=f"a width of {self.net.config.width}",
            )
        config = replace(
            self.net.config,
            matrix_bits=self.bits if self.packed.keys() - {"embedding", "head"} else 0,
            embedding_bits=8 if "embedding" in self.packed else 0,
            head_bits=8 if "head" in self.packed else 0,
        )
        with torch.device("meta"):
            small = Decoder(config)
        state = {
            name: tensor
            for name, tensor in self.net.state_dict().items()
            if name.removesuffix(".weight") not in self.packed
        }
        for name, packed in self.packed.items():
            state |= packed.state(name)
        small.load_state_dict(state, assign=True)
        return small.eval().requires_grad_(False)
