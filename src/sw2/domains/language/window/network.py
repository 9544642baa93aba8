"""A network that predicts the next word from the vectors of the few before it.

    x = (C(w_t), C(w_{t-1}), …, C(w_{t-n+2}))           the nearest word first, [(n - 1) M]
    y = b + U tanh(d + H x) + W x                       logits of w_{t+1}, [V]; W only with direct connections

This is equation 1 of the paper, with the word to be predicted called w_{t+1}.

Notable
- C has one row more than there are words. It stands for a place of which nothing is known: before the beginning of a
  document, or of a row of a batch.
- U and W are one matrix, side by side, so that the largest product is one.
- No cache: the last n - 1 words are all that is held of a text.
- At first the network says how frequent words are, whatever stood before them: b is the logarithm of their counts, and
  U and W are small. C is normal with deviation 0.1; H has Xavier's deviation (Glorot and Bengio 2010, equation 12,
  https://proceedings.mlr.press/v9/glorot10a.html).

Sources: Bengio, Ducharme, Vincent and Jauvin 2003, "A neural probabilistic language model", JMLR 3:1137-1155,
https://jmlr.org/papers/v3/bengio03a.html, sections 2 and 2.1. Dropout, which the paper did not have: Srivastava et al.
2014, JMLR 15:1929-1958.

What it does not do: a softmax over classes or samples of words; the cyclic energy of section 5.

Shapes: B batch · T words · N = n - 1 words of a window · M channels of a word · H hidden · V vocabulary
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sw2.base.config import check_ranges
from sw2.base.errors import UsageError
from sw2.core.model import Batch, Model, Outputs

__all__ = ["WindowStep", "WordWindow"]

_DEVIATION: Final = 0.1
_SMALL: Final = 0.01


@final
class WordWindow(Model):
    """The network at the top of this file."""

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """The shape of a WordWindow.

        Args:
            vocab_size: V; 0 stands for that of the vocabulary, until a network is made.
            order: n, from 2 to 6: a word is predicted from the n - 1 before it.
            channels: M, of a word's vector.
            hidden: H; 0 for no hidden layer, then the connections are direct.
            direct: whether the vectors of the words also reach the logits past the hidden layer.
            dropout: which share of the words' channels and of the hidden layer is left out at random while learning.
            context: how many words are learned from, or judged, side by side; the longest text that is read at once.
        """

        vocab_size: int = 0
        order: int = 5
        channels: int = 30
        hidden: int = 100
        direct: Literal["on", "off"] = "off"
        dropout: float = 0.0
        context: int = 256

        def __post_init__(self) -> None:
            allowed = {
                "vocab_size": (self.vocab_size >= 0, "0, or a whole number above it"),
                "order": (2 <= self.order <= 6, "a whole number from 2 to 6"),
                "channels": (self.channels >= 1, "a whole number of at least 1"),
                "hidden": (self.hidden >= 0, "a whole number of at least 0"),
                "dropout": (0 <= self.dropout < 1, "a share from 0 to below 1"),
                "context": (self.context >= self.order, f"at least the order, {self.order}"),
            }
            check_ranges("model", self, allowed)
            if not self.hidden and self.direct == "off":
                raise UsageError(
                    "Nothing leads from the words to the prediction.",
                    where="model.hidden",
                    wanted="a hidden layer, or direct connections",
                    got="neither",
                    do="Raise model.hidden, or take --set model.direct=on.",
                )

    config: Config

    def __init__(self, config: Config) -> None:
        super().__init__()
        assert config.vocab_size > 0, "the words decide the vocabulary before the network is made"
        self.config = config
        seen = (config.order - 1) * config.channels
        # `from_pretrained` and `skip_init` only to skip torch's own initialisation, which draws from its global state.
        self.embedding = nn.Embedding.from_pretrained(torch.empty(config.vocab_size + 1, config.channels), freeze=False)
        if config.hidden:
            self.hidden = nn.utils.skip_init(nn.Linear, seen, config.hidden)
        features = config.hidden + (seen if config.direct == "on" else 0)
        self.out = nn.utils.skip_init(nn.Linear, features, config.vocab_size)
        if not self.embedding.weight.is_meta:
            self.initialise(torch.Generator().manual_seed(0), torch.ones(config.vocab_size))

    @torch.no_grad()
    def initialise(self, generator: torch.Generator, counts_V: Tensor) -> None:
        """Draw new weights by the rule at the top of this file.

        Args:
            generator: where they are drawn from.
            counts_V: how often each word occurs, none below 1.
        """
        self.embedding.weight.normal_(0.0, _DEVIATION, generator=generator)
        if self.config.hidden:
            ends = self.hidden.in_features + self.hidden.out_features
            self.hidden.weight.normal_(0.0, (2 / ends) ** 0.5, generator=generator)
            self.hidden.bias.zero_()
        self.out.weight.normal_(0.0, _SMALL, generator=generator)
        self.out.bias.copy_(counts_V.float().log().log_softmax(0))

    def forward(self, batch: Batch) -> Outputs:
        """Predict the next word at every place.

        Args:
            batch: "tokens" int64 [B, T]; perhaps "documents", an integer for each of them [B, T], equal within a
                document, beyond which nothing is seen; perhaps "targets" int64 [B, T], the words to predict, negative
                where there is none.

        Returns:
            Without targets "logits" [B, T, V]. With targets "nats" [B, T]: the float32 cross-entropy of each target,
            `-ln p(target)`, 0 where there is none.
        """
        logits_BTV = self.after(self._windows(batch))
        if "targets" not in batch:
            return {"logits": logits_BTV}
        targets_BT = batch["targets"]
        targets_N = targets_BT.flatten().clamp(min=-1)
        nats_N = F.cross_entropy(logits_BTV.flatten(0, 1).float(), targets_N, ignore_index=-1, reduction="none")
        return {"nats": nats_N.view_as(targets_BT)}

    def after(self, seen: Tensor) -> Tensor:
        """Return the logits [..., V] of the word after each window.

        Args:
            seen: int64 [..., N], the words of each window, the nearest first; V for a place of which nothing is known.
        """
        x = F.dropout(self.embedding(seen).flatten(-2), self.config.dropout, self.training)
        parts = [x] if self.config.direct == "on" else []
        if self.config.hidden:
            h = F.dropout(torch.tanh(self.hidden(x)), self.config.dropout, self.training)
            parts = [h, *parts]
        logits: Tensor = self.out(torch.cat(parts, -1))
        return logits

    def step_function(self, slots: int) -> WindowStep:
        """Return this network with a memory of `slots` texts, for `parts.decoding.engine.Engine`."""
        return WindowStep(self, slots)

    def _windows(self, batch: Batch) -> Tensor:
        """The words that each place sees, int64 [B, T, N], its own first."""
        seen = self.config.order - 1
        windows_BTN = F.pad(batch["tokens"], (seen - 1, 0), value=self.config.vocab_size).unfold(1, seen, 1).flip(-1)
        if "documents" not in batch:
            return windows_BTN
        documents_BT = batch["documents"]
        # No document is -2: what stands before the row belongs to none.
        owners_BTN = F.pad(documents_BT, (seen - 1, 0), value=-2).unfold(1, seen, 1).flip(-1)
        return windows_BTN.where(owners_BTN == documents_BT[..., None], self.config.vocab_size)


@final
class WindowStep:
    """The network as a `StepFunction`: of each text the words so far, of which the last few are looked at.

    Args:
        net: the network.
        slots: how many texts it can hold at once.
    """

    def __init__(self, net: WordWindow, slots: int) -> None:
        self.slots, self.capacity = slots, net.config.context
        self._net = net
        self._held: list[list[int]] = [[] for _ in range(slots)]

    @torch.inference_mode()
    def __call__(self, tokens: Sequence[Sequence[int]], slots: Sequence[int], starts: Sequence[int]) -> Tensor:
        """Read new words and return the logits after the last one of each row, [rows, V]."""
        seen = self._net.config.order - 1
        windows = []
        for new, slot, start in zip(tokens, slots, starts, strict=True):
            held = self._held[slot] = [*self._held[slot][:start], *new]
            nothing = [self._net.config.vocab_size] * seen
            windows.append([*held[: -seen - 1 : -1], *nothing][:seen])
        device = self._net.embedding.weight.device
        return self._net.after(torch.tensor(windows, dtype=torch.int64, device=device))

    def copy(self, source: int, target: int, tokens: int) -> None:
        """Let slot `target` hold the first `tokens` words of slot `source`, and nothing else."""
        self._held[target] = self._held[source][:tokens]

    def refresh(self) -> None:
        """Nothing: the weights themselves are computed with, and no copy."""
