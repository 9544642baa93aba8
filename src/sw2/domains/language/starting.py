"""What a language model's learning starts from and ends as: weights of a program, new tokens, adapters.

    start, or nothing → with a row for every token → with adapters (`learn.lora.rank`) → learned → merged, or kept apart

Packed weights of a start are unpacked to learn; under adapters they stay packed, for nothing of them learns.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch

from sw2.base.config import replace
from sw2.base.errors import ProgramError, UsageError
from sw2.base.seed import generator
from sw2.core.gradient import Loss, Nets, Player
from sw2.core.model import Batch, Model
from sw2.core.objective import Job
from sw2.core.program import Net, Program
from sw2.domains.language.adapters import Adapters, merged, taken
from sw2.domains.language.chat.writer import ChatWriter
from sw2.domains.language.decoder import Decoder
from sw2.domains.language.prep import TextPrep
from sw2.domains.language.task import TextWriter
from sw2.parts.layers.lora import LoraConfig, adapt, is_adapter
from sw2.parts.optim.build import OptimConfig

__all__ = ["assembled", "check_adapters", "decoder_of", "player", "starting_net", "with_vocabulary"]


def decoder_of(program: Program) -> Decoder:
    """The network of a language model, adapters merged.

    Raises:
        ProgramError: it is none.
    """
    if not isinstance(program.runtime, TextWriter):
        raise ProgramError(
            "This program has no language model.",
            where=program.path,
            wanted="a program for text-generation or chat",
            got=f"a program for {program.task.name}",
        )
    return program.runtime.net


def with_vocabulary(net: Decoder, rows: int) -> Decoder:
    """A network with at least `rows` rows of its embedding; new ones are the mean of the old. Itself if it has as many.

    The mean gives a new token the probability that a token has on average, so that nothing else changes much (Hewitt
    2021, https://www.cs.columbia.edu/~johnhew/vocab-expansion.html).
    """
    have = net.config.vocab_size
    if rows <= have:
        return net
    net = net.unpacked()
    with torch.device("meta"):
        larger = Decoder(replace(net.config, vocab_size=rows))
    state = dict(net.state_dict())
    for name in ("embedding.weight", "head"):
        if name in state:
            old_VD = state[name]
            state[name] = torch.cat([old_VD, old_VD.mean(0).expand(rows - have, -1)])
    larger.load_state_dict(state, assign=True)
    return larger.train(net.training)


def starting_net(job: Job, lora: LoraConfig | None = None) -> Decoder:
    """The decoder that a job begins with: its start's, with a row for every token of the tokenizer; or a new one.

    Args:
        job: with a TextPrep.
        lora: adapters, if any.

    Raises:
        UsageError: a setting of the model contradicts the start or the tokenizer, or adapters have nothing to adapt.
    """
    assert isinstance(job.prep, TextPrep)
    lora = lora or LoraConfig()
    if job.model_config.vocab_size not in (0, job.prep.config.vocab_size):
        raise UsageError(
            "The setting 'model.vocab_size' contradicts the tokenizer.",
            wanted=f"{job.prep.config.vocab_size}, as prep.vocab_size says",
            got=job.model_config.vocab_size,
            do="Leave model.vocab_size out; without --from, set prep.vocab_size.",
        )
    rows = job.prep.tokenizer.vocab_size
    if "start" not in job.parents:
        net = Decoder(replace(job.model_config, vocab_size=rows))
        net.initialise(generator(job.seed, "weights"))
        return net
    old = decoder_of(job.parents["start"])
    if lora.rank and rows > old.config.vocab_size:
        raise UsageError(
            "Adapters cannot learn new tokens, and the start lacks those of conversations.",
            where="learn.lora.rank",
            wanted="a start that chats, or rank 0",
            got=f"{rows - old.config.vocab_size} tokens without a row in the embedding",
            do="Learn all weights first: leave learn.lora.rank out.",
        )
    start = with_vocabulary(old if lora.rank else old.unpacked(), rows)
    packed = {name: getattr(start.config, name) for name in ("matrix_bits", "embedding_bits", "head_bits")}
    with torch.device("meta"):
        net = Decoder(replace(job.model_config, vocab_size=start.config.vocab_size, **packed))
    state = {name: tensor.detach().clone() for name, tensor in start.state_dict().items()}
    ours, theirs = ({name: tuple(t.shape) for name, t in each.items()} for each in (net.state_dict(), state))
    if ours != theirs:
        raise UsageError(
            "The program to start from has another shape than --set model.… says.",
            wanted="no setting of the model but model.context together with --from",
            got=", ".join(sorted({name for name, _ in set(ours.items()) ^ set(theirs.items())})[:4]),
        )
    net.load_state_dict(state, assign=True)
    if lora.rank:
        adapt(net, "blocks.", lora, generator(job.seed, "adapters"))
    return net


def hold(net: Decoder, blocks: int, job: Job) -> None:
    """Let the first blocks stay as they are.

    Raises:
        UsageError: there would be nothing to hold, or nothing left to learn.
    """
    if blocks and "start" not in job.parents:
        raise UsageError(
            "Blocks that know nothing yet have to learn.",
            where="learn.held",
            wanted="--from PROGRAM, or 0",
            got=f"{blocks} and no --from",
        )
    if blocks >= net.config.depth:
        raise UsageError(
            "No block would learn.", where="learn.held", wanted=f"less than {net.config.depth}", got=blocks
        )
    net.held = blocks


def player(
    role: str,
    loss: Callable[[Nets, Batch], Loss],
    optim: OptimConfig,
    lora: LoraConfig,
    name: str = "",
    passes: int = 1,
    held: Callable[[str], bool] = lambda name: False,
) -> Player:
    """Who changes the network of a role: all of it; or its adapters, and the head of a Scorer.

    Args:
        role, loss, passes: see `core.gradient.Player`.
        optim: for all weights; adapters learn by AdamW, at a higher rate.
        lora: adapters, if any.
        name: shown in metrics; the role if "".
        held: which parameters stay as they are nevertheless.
    """
    if lora.rank:
        optim = replace(optim, method="adamw", learning_rate=optim.learning_rate * lora.rate, weight_decay=0.0)
    return Player(
        name=name or role,
        nets=(role,),
        loss=loss,
        learns=lambda name: not held(name) and (not lora.rank or _is_adapter_or_head(name)),
        optim=optim,
        passes=passes,
    )


def _is_adapter_or_head(name: str) -> bool:
    return is_adapter(name) or name.startswith("head.")


def assembled(job: Job, nets: Mapping[str, Model], lora: LoraConfig, provider: Mapping[str, str]) -> Program:
    """The program of what was learned; adapters are merged, or kept apart beside the start that they change."""
    assert isinstance(job.prep, TextPrep)
    net = nets["decoder"]
    assert isinstance(net, Decoder)
    kept: Mapping[str, Net]
    uses: dict[str, Program] = {}
    if lora.rank and lora.merge == "off":
        kept, uses = {"adapters": Net(Adapters.name, taken(net))}, {"base": job.parents["start"]}
    else:
        kept = {"decoder": Net("decoder", merged(net) if lora.rank else net)}
    return Program.assemble(
        task=job.task,
        runtime=ChatWriter if job.prep.controls.chat_template else TextWriter,
        nets=kept,
        prep=job.prep,
        provider=provider,
        uses=uses,
    )


def check_adapters(job: Job, lora: LoraConfig) -> None:
    """Complain before anything is learned of adapters that have nothing to change, or could not be kept as asked.

    Raises:
        UsageError: there is no start; or adapters are to be kept apart, and what they change is no saved program.
    """
    start = job.parents.get("start")
    if lora.rank and start is None:
        raise UsageError(
            "Adapters change what was learned before.",
            where="learn.lora.rank",
            wanted="--from PROGRAM, or rank 0",
            got=f"rank {lora.rank} and no --from",
        )
    if lora.rank and lora.merge == "off" and (start is None or start.path is None):
        raise UsageError(
            "Adapters alone need a saved program that they change.",
            where="learn.lora.merge=off",
            wanted="--from a program's folder",
            got="named weights or a file of another toolkit",
            do="Leave learn.lora.merge out; the adapters are then added to the weights.",
        )
