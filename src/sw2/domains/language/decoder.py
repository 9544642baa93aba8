"""A decoder-only language model: reads tokens, predicts each next one.

    tokens [B, T] -> embedding -> depth x Block -> norm -> head (the embedding again, when tied) -> logits [B, T, V]

Notable
- One network for the lineage from GPT-2 to Qwen3, each a config: positions rotary, learned or ALiBi; RMSNorm or
  LayerNorm; SwiGLU, GELU or ReLU²; grouped heads; norms on queries and keys; biases; a norm behind the embedding. The
  defaults are LLaMA's mathematics to the letter. `families` knows which config is whose, and renames weights; a test
  holds values and gradients against `transformers`.
- Documents packed into one row do not see each other when the batch says which token belongs to which. Learned
  positions begin anew with each; others simply go on, since rotary attention and ALiBi know distances only.
- With "targets" in the batch the loss per token is computed here, without handing out [B, T, V] numbers: a compiler
  can then fuse the softmax with the cast before it, and nothing in float32 of that size is kept for the way back.
- With `recall` above 0 each place is also told which tokens followed when its last 1, 2, … tokens stood in the text
  before (`parts.layers.recall`). Their embeddings, through one matrix, are added to its own; and the prediction is a
  mixture of the softmax and those tokens, p = g₀ softmax(logits) + Σ gₙ [token n], with shares g that the network
  chooses at each place (a pointer mixture). A model of a few million tokens copies names from the start instead of
  learning how to. LLaMA has nothing like it, so 0 is the default.
- Initial weights: normal with deviation `init_deviation`; the two projections that write into the residual stream of
  each block are divided by √(2 · depth), so that the stream does not grow with depth (Radford et al. 2019, "Language
  models are unsupervised multitask learners", section 2.3). Norms start at one. A new Decoder is always the same
  network; `initialise` draws another.

Sources: Touvron et al. 2023, https://arxiv.org/abs/2302.13971, section 2.2; those of `parts.layers.transformer`; the
norm behind the embedding: Le Scao et al. 2022, https://arxiv.org/abs/2211.05100, section 3.2.3; tied embeddings: Press
& Wolf 2017, https://arxiv.org/abs/1608.05859; recall: Akyürek et al. 2024, https://arxiv.org/abs/2401.12973;
the mixture: Merity et al. 2016, https://arxiv.org/abs/1609.07843.

What it does not do: mixtures of experts, sliding windows, dropout.

Shapes: B batch · T tokens · S keys in sight · D width · H heads · K key heads · E channels of a head · F hidden
        P places that are predicted · V vocabulary
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sw2.base.config import replace
from sw2.base.errors import UsageError
from sw2.core.model import Batch, Model, Outputs
from sw2.domains.language.native import native_weights
from sw2.parts.decoding.cache import CachedStep, KVCache, Rows
from sw2.parts.decoding.engine import StepFunction
from sw2.parts.decoding.native import NativeStep, NativeWeights
from sw2.parts.layers.attention import branch_mask, causal_mask, document_mask, within_branches, within_documents
from sw2.parts.layers.lora import restructured
from sw2.parts.layers.packed import PARTS, PackedLinear, is_packed, pack_modules
from sw2.parts.layers.recall import recall
from sw2.parts.layers.transformer import Attention, Block, RotaryScaling, alibi_slopes, build_norm, rotary_table

__all__ = ["KEPT", "Decoder", "parameter_count"]

KEPT: Final = ("positions", "share")
"""Modules that are never packed: little to save, and what they decide, they decide alone."""


@final
class Decoder(Model):
    """The network at the top of this file."""

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """The shape of a Decoder.

        Args:
            vocab_size: V; 0 stands for that of the tokenizer, until a network is made.
            context: the longest text it is meant for, in tokens.
            width: D; a multiple of 2 · heads, unless head_dim is set.
            depth: how many blocks.
            heads: H.
            kv_heads: K, divides H; fewer make the cache smaller.
            hidden: F of the feed-forward layers, usually about 8/3 · D (SwiGLU) or 4 · D.
            rope_base: of the rotary positions; larger sees differences further away.
            norm_epsilon: of the norms.
            tied: whether the head is the embedding.
            init_deviation: of the initial weights.
            recall: the longest repetition, in tokens, whose continuation is shown to each place; 0 shows none.
            positions: how a token knows its place: turned queries and keys, an embedding of the place (then no text
                may be longer than `context`), or scores that fall with the distance.
            rope_scaling: how rotary positions are stretched.
            norm: RMSNorm or LayerNorm.
            activation: of the feed-forward layers.
            biases: which linear layers have one: none, the queries, keys and values, or all but the head.
            head_dim: E; 0 stands for D / H.
            head_norm: whether queries and keys are normalised.
            embedding_norm: whether the embedding is.
            matrix_bits: of the linear layers, 8 or 4 for packed ones that cannot learn; 0 for floating point.
            embedding_bits: of the embedding, likewise; embedded places and the shares of recall are never packed.
            head_bits: of a head that is not the embedding, likewise.
        """

        vocab_size: int = 8192
        context: int = 256
        width: int = 320
        depth: int = 6
        heads: int = 5
        kv_heads: int = 5
        hidden: int = 864
        rope_base: float = 10_000.0
        norm_epsilon: float = 1e-5
        tied: bool = True
        init_deviation: float = 0.02
        recall: int = 0
        positions: Literal["rotary", "learned", "alibi"] = "rotary"
        rope_scaling: RotaryScaling = field(default_factory=RotaryScaling)
        norm: Literal["rms", "layer"] = "rms"
        activation: Literal["swiglu", "gelu", "gelu_tanh", "relu2"] = "swiglu"
        biases: Literal["none", "qkv", "all"] = "none"
        head_dim: int = 0
        head_norm: bool = False
        embedding_norm: bool = False
        matrix_bits: Literal[0, 4, 8] = 0
        embedding_bits: Literal[0, 4, 8] = 0
        head_bits: Literal[0, 4, 8] = 0

        def __post_init__(self) -> None:
            whole = (self.vocab_size + 1, self.context, self.depth, self.hidden)
            if min(whole) < 1 or min(self.rope_base, self.norm_epsilon, self.init_deviation) <= 0 or self.recall < 0:
                raise UsageError("This is not the shape of a Decoder.", wanted="numbers above 0", got=self)
            self.attention.__post_init__()

        @property
        def attention(self) -> Attention.Config:
            """The sizes of every attention layer."""
            return Attention.Config(
                width=self.width,
                heads=self.heads,
                kv_heads=self.kv_heads,
                head_dim=self.head_dim,
                biases=self.biases,
                head_norm=self.head_norm,
                norm_epsilon=self.norm_epsilon,
            )

    config: Config
    head: nn.Parameter | PackedLinear

    def __init__(self, config: Config) -> None:
        super().__init__()
        assert config.vocab_size > 0, "the tokenizer decides the vocabulary before the network is made"
        self.config = config
        self.held = 0
        """How many of the first blocks no gradient goes through, nor to what they read; see `is_held`."""
        # `from_pretrained` only to skip torch's own initialisation, which would draw from the global random state.
        empty_VD = torch.empty(config.vocab_size, config.width)
        self.embedding = nn.Embedding.from_pretrained(empty_VD, freeze=False)
        if config.recall:
            self.recall = nn.utils.skip_init(nn.Linear, config.recall * config.width, config.width, bias=False)
            self.share = nn.utils.skip_init(nn.Linear, config.width, 1 + config.recall)
        if config.positions == "learned":
            self.positions = nn.Embedding.from_pretrained(torch.empty(config.context, config.width), freeze=False)
        if config.embedding_norm:
            self.embedding_norm = build_norm(config.norm, config.width, config.norm_epsilon)
        self.blocks = nn.ModuleList(
            Block(config.attention, config.hidden, config.norm_epsilon, norm=config.norm, activation=config.activation)
            for _ in range(config.depth)
        )
        self.norm = build_norm(config.norm, config.width, config.norm_epsilon)
        if not config.tied:
            self.head = nn.Parameter(torch.empty(config.vocab_size, config.width))
        if not self.embedding.weight.is_meta:
            self.initialise(torch.Generator().manual_seed(0))
        pack_modules(self, config.matrix_bits, config.embedding_bits, KEPT)
        if not config.tied and config.head_bits:
            del self.head
            sizes = nn.Linear(config.width, config.vocab_size, bias=False, device="meta")
            self.head = PackedLinear(sizes, config.head_bits)

    @torch.no_grad()
    def initialise(self, generator: torch.Generator) -> None:
        """Draw new weights by the rule at the top of this file."""
        for name, parameter in self.named_parameters():
            if name.startswith("share."):
                # At first the softmax has e³ times the share of each found token, everywhere.
                parameter.zero_()
                if parameter.ndim == 1:
                    parameter[0] = 3.0
            elif name.endswith(".bias"):
                parameter.zero_()
            elif parameter.ndim == 1:
                parameter.fill_(1.0)
            else:
                if name == "recall.weight":
                    # As large as the embedding itself after passing through: the found tokens count from the start.
                    parameter.normal_(0.0, (self.config.recall * self.config.width) ** -0.5, generator=generator)
                    continue
                writes = name.endswith(("attention.out.weight", "mlp.down.weight"))
                scale = 1 / math.sqrt(2 * self.config.depth) if writes else 1.0
                parameter.normal_(0.0, self.config.init_deviation * scale, generator=generator)

    def forward(self, batch: Batch) -> Outputs:
        """Predict the next token at every place.

        Args:
            batch: "tokens" int64 [B, T]; perhaps "documents", an integer for each token [B, T], equal within a
                document; perhaps "branches" and "positions" int64 [B, T], of a row or of documents that hold texts
                which begin alike: 0 for what they have in common, which comes first, and another integer for the rest
                of each; and where in its text each token stands (not with recall); perhaps "targets" int64 [B, T], the
                tokens to predict, negative where there is none; with them perhaps "places" int64 [B, P], those of the
                row's tokens whose targets count: then there are [B, P] targets, and logits of nothing else are
                computed.

        Returns:
            Without targets "logits" [B, T, V]; with recall they are log-probabilities. With targets "nats" [B, T] (or
            [B, P]): the float32 cross-entropy of each target, `-ln p(target)`, 0 where there is none.
        """
        tokens_BT = batch["tokens"]
        x_BTD, found = self._read(batch)
        if "places" in batch:
            row_of_each = torch.arange(len(tokens_BT), device=tokens_BT.device)[:, None]
            at = (row_of_each, batch["places"])
            found = None if found is None else (found[0][at], found[1][at])
            return {"nats": self._nats(x_BTD[at], batch["targets"], found)}
        if "targets" in batch:
            return {"nats": self._nats(x_BTD, batch["targets"], found)}
        logits_BTV = F.linear(x_BTD, self.head_weight)
        return {"logits": logits_BTV if found is None else self._mixed(x_BTD, logits_BTV, found)}

    def features(self, batch: Batch) -> Tensor:
        """Return what the head would turn into logits, [B, T, D], of a batch as `forward` has it."""
        return self._read(batch)[0]

    def _read(self, batch: Batch) -> tuple[Tensor, tuple[Tensor, Tensor] | None]:
        """Read whole rows: their features, and what recall found."""
        positions, mask, found = self._sight(batch)
        return self._features(batch["tokens"], positions, mask, None, found), found

    def _nats(self, x_BPD: Tensor, targets_BP: Tensor, found: tuple[Tensor, Tensor] | None) -> Tensor:
        """Compute -ln p of each target, float32 [B, P]; 0 where there is none."""
        logits_NV = F.linear(x_BPD, self.head_weight).flatten(0, 1).float()
        targets_N = targets_BP.flatten().clamp(min=-1)
        nats_BP = F.cross_entropy(logits_NV, targets_N, ignore_index=-1, reduction="none").view_as(targets_BP)
        if found is None:
            return nats_BP
        # The mixture at the target alone, without a second [B, P, V]: every found token that is the target adds to it.
        shares = self._log_shares(x_BPD, found[1])
        hits = found[1] & (found[0] == targets_BP[..., None])
        right = shares[..., 1:].masked_fill(~hits, -math.inf)
        mixed_BP = -torch.cat([(shares[..., 0] - nats_BP)[..., None], right], -1).logsumexp(-1)
        return mixed_BP * (targets_BP >= 0)

    def decode(self, tokens_BT: Tensor, rows: Rows) -> Tensor:
        """Go on where a cache ends; see `parts.decoding.cache`.

        Args:
            tokens_BT: the new tokens, padded at the end with any token.
            rows: where they stand.

        Returns:
            Logits [B, V] after the last real token of each row.
        """
        found = None
        if self.config.recall:
            # Padding after a row's end may point beyond the history; nobody looks at its result.
            history_BS = rows.history(tokens_BT)
            found = recall(history_BS, rows.positions_BT.clamp(max=history_BS.shape[1] - 1), self.config.recall)
        mask = rows.mask_BTS
        if self.config.positions == "alibi":
            mask = self._alibi(rows.positions_BT, mask)
        x_BTD = self._features(tokens_BT, rows.positions_BT, mask, rows, found)
        last_BD = x_BTD[torch.arange(len(x_BTD), device=x_BTD.device), rows.last_B]
        logits_BV = F.linear(last_BD, self.head_weight)
        if found is None:
            return logits_BV
        rows_B = torch.arange(len(x_BTD), device=x_BTD.device)
        last_found = (found[0][rows_B, rows.last_B], found[1][rows_B, rows.last_B])
        return self._mixed(last_BD, logits_BV, last_found)

    def _log_shares(self, x_D: Tensor, known_N: Tensor) -> Tensor:
        """Compute ln g of the softmax and of each found token, float32 [..., 1 + N]; -inf where nothing was found."""
        raw = self.share(x_D).float()
        always = torch.ones_like(known_N[..., :1])
        return raw.masked_fill(~torch.cat([always, known_N], -1), -math.inf).log_softmax(-1)

    def _mixed(self, x_D: Tensor, logits_V: Tensor, found: tuple[Tensor, Tensor]) -> Tensor:
        """Compute ln of the mixture at the top of this file, float32 [..., V]."""
        shares = self._log_shares(x_D, found[1])
        mixed_V = logits_V.float().log_softmax(-1) + shares[..., :1]
        for order in range(self.config.recall):
            token = found[0][..., order : order + 1]
            there = mixed_V.gather(-1, token)
            share = shares[..., order + 1 : order + 2]
            high = torch.maximum(there, share)
            both = high + torch.log(torch.exp(there - high) + torch.exp(share - high))
            mixed_V = mixed_V.scatter(-1, token, torch.where(found[1][..., order : order + 1], both, there))
        return mixed_V

    def cached_step(
        self, slots: int, capacity: int | None = None, cache_dtype: torch.dtype | None = None
    ) -> StepFunction:
        """Return this network with a cache for `slots` texts, ready for `parts.decoding.engine.Engine`.

        In evaluation mode the native kernels run it where they can, with a copy of the weights as they are now, or as
        they are at its `refresh`; see `domains.language.native`. Otherwise torch does, with the weights themselves.

        Args:
            slots: how many texts may run at once.
            capacity: tokens per text; the model's context when None.
            cache_dtype: of the held keys and values, int8 for 8 bits and a scale; that of the weights when None.
        """
        config = self.config
        capacity = capacity or config.context
        if not self.training and cache_dtype in (None, torch.int8):
            weights = self._native_weights(capacity)
            if weights is not None:

                def now() -> NativeWeights:
                    weights = self._native_weights(capacity)
                    assert weights is not None, "what was known stays known"
                    return weights

                cache_bits: Literal[8, 16] = 16 if cache_dtype is None else 8
                return NativeStep(weights, slots, capacity, cache_bits=cache_bits, source=now)
        weight = next(self.parameters())
        cache = KVCache(
            layers=config.depth,
            slots=slots,
            kv_heads=config.kv_heads,
            capacity=capacity,
            head_dim=config.attention.channels,
            dtype=cache_dtype or weight.dtype,
            device=weight.device,
        )
        # Unpacked once: without the kernels every step would unpack all weights again.
        return CachedStep(self.unpacked(), cache)

    def _native_weights(self, capacity: int) -> NativeWeights | None:
        config = self.config
        channels = config.attention.channels
        still = torch.zeros(capacity, channels // 2)
        turned = config.positions == "rotary"
        return native_weights(
            self.state_dict(),
            heads=config.heads,
            kv_heads=config.kv_heads,
            norm_epsilon=config.norm_epsilon,
            activation=config.activation,
            rotary=rotary_table(torch.arange(capacity), channels, config.rope_base, config.rope_scaling)
            if turned
            else (still.cos(), still.sin()),
            slopes=alibi_slopes(config.heads) if config.positions == "alibi" else torch.zeros(config.heads),
        )

    def unpacked(self) -> Decoder:
        """Return this network in floating point, to learn from or to be written elsewhere; itself, if it is so."""
        if not self.packed:
            return self
        config = replace(self.config, matrix_bits=0, embedding_bits=0, head_bits=0)
        with torch.device("meta"):
            plain = Decoder(config)
        state = {name: tensor for name, tensor in self.state_dict().items() if not name.endswith(PARTS)}
        # The head is no module there.
        state |= {
            name if name == "head" else f"{name}.weight": module.weight
            for name, module in self.named_modules()
            if is_packed(module)
        }
        plain.load_state_dict(state, assign=True)
        return plain.train(self.training)

    def blank(self) -> Decoder:
        return restructured(Decoder(self.config), self)

    def thawed(self) -> Decoder:
        return copy.deepcopy(self.unpacked())

    @property
    def packed(self) -> bool:
        """Whether any of its weights are."""
        return any(is_packed(module) for module in self.modules())

    @property
    def head_weight(self) -> Tensor:
        """[V, D], what turns features into logits."""
        if self.config.tied:
            return self.embedding.weight
        return self.head.weight if isinstance(self.head, PackedLinear) else self.head

    def layers(self) -> Sequence[tuple[str, nn.Module]]:
        """Return the embedding, each block and the last norm."""
        blocks = [(f"block {index}", block) for index, block in enumerate(self.blocks)]
        if not self.config.recall:
            return [("embedding", self.embedding), *blocks, ("norm", self.norm)]
        return [
            ("embedding", self.embedding),
            ("recall", self.recall),
            *blocks,
            ("norm", self.norm),
            ("share", self.share),
        ]

    def entrance(self, batch: Batch) -> tuple[Tensor, tuple[Tensor, Tensor] | None, Tensor | None]:
        """What the first block is given: x [B, T, D], the rotary table and the mask (see `Attention.forward`)."""
        positions, mask, found = self._sight(batch)
        return self._embedded(batch["tokens"], positions, found), self._rotary(positions), mask

    def _sight(self, batch: Batch) -> tuple[Tensor, Tensor | None, tuple[Tensor, Tensor] | None]:
        """Where the tokens of a batch stand, what each may look at, and what recall finds for it."""
        tokens_BT = batch["tokens"]
        positions = torch.arange(tokens_BT.shape[1], device=tokens_BT.device)
        documents_BT = batch.get("documents")
        if "branches" in batch:
            return self._sight_of_branches(batch["branches"], batch["positions"], documents_BT)
        mask = None if documents_BT is None else within_documents(documents_BT)
        if self.config.positions == "learned" and documents_BT is not None:
            positions = _places_in_documents(documents_BT)
        if self.config.positions == "alibi":
            if documents_BT is None:
                allowed = causal_mask(len(positions), positions.device)[None]
            else:
                allowed = document_mask(documents_BT)
            mask = self._alibi(positions.expand(len(allowed), -1), allowed)
        found = None
        if self.config.recall:
            places_BT = torch.arange(tokens_BT.shape[1], device=tokens_BT.device).expand(tokens_BT.shape)
            found = recall(tokens_BT, places_BT, self.config.recall, documents_BT)
        return positions, mask, found

    def _sight_of_branches(
        self, branches_BT: Tensor, positions_BT: Tensor, documents_BT: Tensor | None
    ) -> tuple[Tensor, Tensor, None]:
        assert not self.config.recall, "a repetition may lie across what branches have in common"
        if self.config.positions == "alibi":
            mask_BTT = branch_mask(branches_BT, documents_BT)
            return positions_BT, self._alibi(positions_BT, mask_BTT, positions_BT), None
        return positions_BT, within_branches(branches_BT, documents_BT), None

    def _alibi(self, positions_BT: Tensor, mask_BTS: Tensor, keys_BS: Tensor | None = None) -> Tensor:
        """What is added to the scores, float32 [B, H, T, S]: -slope · distance, -inf where `mask_BTS` is false.

        Args:
            positions_BT: where the queries stand.
            mask_BTS: what they may look at.
            keys_BS: where the keys stand; None: each where it is.
        """
        slopes_H = alibi_slopes(self.config.heads).to(positions_BT.device)
        if keys_BS is None:
            keys_BS = torch.arange(mask_BTS.shape[2], device=positions_BT.device).expand(len(positions_BT), -1)
        distance_BTS = positions_BT[:, :, None] - keys_BS[:, None, :]
        bias_BHTS = -slopes_H[:, None, None] * distance_BTS[:, None]
        return bias_BHTS.masked_fill(~mask_BTS[:, None], -math.inf)

    def _features(
        self,
        tokens_BT: Tensor,
        positions: Tensor,
        mask: Tensor | None,
        rows: Rows | None,
        found: tuple[Tensor, Tensor] | None,
    ) -> Tensor:
        rotary = self._rotary(positions)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.held):
            x_BTD = self._embedded(tokens_BT, positions, found)
            for index, block in enumerate(self.blocks[: self.held]):
                x_BTD = block(x_BTD, rotary, mask, rows, index)
        for index, block in enumerate(self.blocks[self.held :], self.held):
            x_BTD = block(x_BTD, rotary, mask, rows, index)
        return self.norm(x_BTD)

    def is_held(self, name: str) -> bool:
        """Whether a parameter of that name gets no gradient while the first `held` blocks stay as they are.

        An embedding that is the head too gets that of the head.
        """
        if not self.held:
            return False
        if name.startswith("blocks."):
            return int(name.split(".")[1]) < self.held
        first = ("positions.", "embedding_norm.", "recall.")
        return name.startswith(first if self.config.tied else ("embedding.", *first))

    def _rotary(self, positions: Tensor) -> tuple[Tensor, Tensor] | None:
        config = self.config
        if config.positions != "rotary":
            return None
        return rotary_table(positions, config.attention.channels, config.rope_base, config.rope_scaling)

    def _embedded(self, tokens_BT: Tensor, positions: Tensor, found: tuple[Tensor, Tensor] | None) -> Tensor:
        x_BTD = self.embedding(tokens_BT)
        if self.config.positions == "learned":
            # Padding behind a row's end may stand beyond the last place; nobody looks at its result.
            x_BTD = x_BTD + self.positions(positions.clamp(max=self.config.context - 1))
        if self.config.embedding_norm:
            x_BTD = self.embedding_norm(x_BTD)
        if found is not None:
            tokens_BTN, known_BTN = found
            x_BTD = x_BTD + self.recall((self.embedding(tokens_BTN) * known_BTN[..., None]).flatten(2))
        return x_BTD


def _places_in_documents(documents_BT: Tensor) -> Tensor:
    """How many tokens of its own document stand before each token in its row, int64 [B, T]."""
    place_T = torch.arange(documents_BT.shape[1], device=documents_BT.device)
    begins_BT = F.pad(documents_BT[:, 1:] != documents_BT[:, :-1], (1, 0))
    return place_T - torch.where(begins_BT, place_T, 0).cummax(1).values


def parameter_count(config: Decoder.Config) -> int:
    """How many weights a Decoder of this shape has, by arithmetic: no network is made."""
    attention, bias = config.attention, config.biases
    rows, values = (config.heads + 2 * config.kv_heads) * attention.channels, config.heads * attention.channels
    norm = config.width * (1 if config.norm == "rms" else 2)
    gates = 2 if config.activation == "swiglu" else 1
    block = config.width * (rows + values + (gates + 1) * config.hidden) + 2 * norm
    block += rows if bias != "none" else 0
    block += gates * config.hidden + 2 * config.width if bias == "all" else 0
    block += 2 * attention.channels if config.head_norm else 0
    outer = config.vocab_size * config.width * (1 if config.tied else 2) + norm * (2 if config.embedding_norm else 1)
    outer += config.context * config.width if config.positions == "learned" else 0
    outer += (
        (config.recall * config.width + 1 + config.recall) * config.width + 1 + config.recall if config.recall else 0
    )
    return outer + config.depth * block
