"""A decoder that gives a number instead of a next token: a reward model's network, and a critic's.

    tokens [B, T] -> the decoder's features [B, T, D] -> one linear layer -> "scores" [B, T]

The score of a conversation is that at its last token, which has seen all of it. The head begins at zero, so that every
answer begins equally good, and a start from a language model moves it only as far as the pairs say (Stiennon et al.
2020, https://arxiv.org/abs/2009.01325, section 3.4, puts a linear head on the fine-tuned model likewise).

Shapes: B batch · T tokens · D width
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import final

import torch
from torch import nn

from sw2.core.model import Batch, Model, Outputs
from sw2.domains.language.adapters import merged
from sw2.domains.language.decoder import Decoder
from sw2.parts.layers.lora import LoraConfig, adapt, restructured

__all__ = ["Scorer"]


@final
class Scorer(Model):
    """The network at the top of this file."""

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """The shape of a Scorer.

        Args:
            decoder: of the language model that it begins from.
        """

        decoder: Decoder.Config = field(default_factory=Decoder.Config)

    config: Config

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.decoder = Decoder(config.decoder)
        self.head = nn.utils.skip_init(nn.Linear, config.decoder.width, 1)
        with torch.no_grad():
            for parameter in self.head.parameters():
                if not parameter.is_meta:
                    parameter.zero_()

    @classmethod
    def begin(cls, net: Decoder) -> Scorer:
        """A scorer that begins from a copy of a language model, in floating point."""
        net = net.unpacked()
        new = cls(cls.Config(decoder=net.config))
        new.decoder.load_state_dict(net.state_dict())
        return new

    def forward(self, batch: Batch) -> Outputs:
        """Score every beginning of each row.

        Args:
            batch: "tokens" int64 [B, T]; perhaps "documents", as `Decoder.forward` has them.

        Returns:
            "scores" float32 [B, T]: of each row up to and with that token.
        """
        x_BTD = self.decoder.features(batch)
        return {"scores": self.head(x_BTD).squeeze(-1).float()}

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
        """Return those of the decoder, and the head."""
        return [*self.decoder.layers(), ("head", self.head)]
