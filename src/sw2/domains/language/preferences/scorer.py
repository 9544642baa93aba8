"""A decoder that gives a number instead of a next token: a reward model's network, and a critic's.

    tokens [B, T] -> the decoder's features [B, T, D] -> one linear layer -> "scores" [B, T]

The score of a conversation is that at its last token, which has seen all of it. The head begins at zero, so that every
answer begins equally good, and a start from a language model moves it only as far as the pairs say (Stiennon et al.
2020, https://arxiv.org/abs/2009.01325, section 3.4, puts a linear head on the fine-tuned model likewise).

With `likelihood` it also counts how likely the decoder itself finds each token of the answer, which a fine-tuned one
knows much about: that a price is another than the menu's is seen where it is predicted, and nowhere as well as there.

    score = head(h at the last token) + Σ over the answer's tokens t of likelihood(h before t) · ln p(t)

`likelihood` is a linear layer, so that what came before decides how much the next token's probability matters: a
courtesy may be unlikely and harmless. Where its weights are zero and its bias is not, this is the sum of
log-probabilities, which DPO's implicit reward is made of too (Rafailov et al. 2023, https://arxiv.org/abs/2305.18290,
section 5).

Shapes: B batch · T tokens · P places of an answer's tokens · D width
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, final

import torch
from torch import nn

from sw2.core.model import Batch, Model, Outputs
from sw2.domains.language.adapters import merged
from sw2.domains.language.decoder import Decoder
from sw2.parts.layers.lora import LoraConfig, adapt, restructured

__all__ = ["Scorer"]

_AT_FIRST: Final = 0.05
"""What a nat counts before anything is learned: answers differ by some twenty."""


@final
class Scorer(Model):
    """The network at the top of this file."""

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """The shape of a Scorer.

        Args:
            decoder: of the language model that it begins from.
            likelihood: whether how likely the decoder finds the answer's tokens counts too.
        """

        decoder: Decoder.Config = field(default_factory=Decoder.Config)
        likelihood: bool = False

    config: Config

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.decoder = Decoder(config.decoder)
        self.head = nn.utils.skip_init(nn.Linear, config.decoder.width, 1)
        if config.likelihood:
            self.likelihood = nn.utils.skip_init(nn.Linear, config.decoder.width, 1)
        with torch.no_grad():
            for layer in (self.head, *([self.likelihood] if config.likelihood else [])):
                if not layer.weight.is_meta:
                    layer.weight.zero_()
                    layer.bias.fill_(0.0 if layer is self.head else _AT_FIRST)

    @classmethod
    def begin(cls, net: Decoder, *, likelihood: bool = False) -> Scorer:
        """A scorer that begins from a copy of a language model, in floating point."""
        net = net.unpacked()
        new = cls(cls.Config(decoder=net.config, likelihood=likelihood))
        new.decoder.load_state_dict(net.state_dict())
        return new

    def forward(self, batch: Batch) -> Outputs:
        """Score every beginning of each row.

        Args:
            batch: "tokens" int64 [B, T]; perhaps "documents", as `Decoder.forward` has them; with `likelihood` "places"
                and "targets" int64 [B, P], as it has them, of the answers' tokens.

        Returns:
            "scores" float32 [B, T]: of each row up to and with that token. With `likelihood` "likelihoods" float32
            [B, P]: what each of the answers' tokens adds to its answer's score, 0 where there is none; and "nats".
        """
        if not self.config.likelihood:
            return {"scores": self.head(self.decoder.features(batch)).squeeze(-1).float()}
        x_BTD, x_BPD, nats_BP = self.decoder.features_and_nats(batch)
        weights_BP = self.likelihood(x_BPD).squeeze(-1).float()
        return {"scores": self.head(x_BTD).squeeze(-1).float(), "likelihoods": -weights_BP * nats_BP, "nats": nats_BP}

    def adapt(self, lora: LoraConfig, generator: torch.Generator) -> None:
        """Give the blocks adapters, if `lora` says so, which learn together with the head."""
        if lora.rank:
            adapt(self, "decoder.blocks.", lora, generator)

    def is_held(self, name: str) -> bool:
        """Whether a parameter of that name gets no gradient; see `Decoder.is_held`. The embedding is no head here."""
        inner = name.removeprefix("decoder.")
        return name != inner and (
            self.decoder.is_held(inner) or (bool(self.decoder.held) and inner.startswith("embedding."))
        )

    def merged(self) -> Scorer:
        """This network, its adapters added to its weights."""
        merged(self.decoder)
        return self

    def blank(self) -> Scorer:
        return restructured(Scorer(self.config), self)

    def layers(self) -> Sequence[tuple[str, nn.Module]]:
        """Return those of the decoder, the head, and what weighs likelihoods."""
        weighing = [("likelihood", self.likelihood)] if self.config.likelihood else []
        return [*self.decoder.layers(), ("head", self.head), *weighing]
