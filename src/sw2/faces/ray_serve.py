"""Ray Serve runs programs as several replicas, on one machine or on many, behind one address.

    pip install 'sw2[scale]'
    RAY_USAGE_STATS_ENABLED=0 serve run sw2.faces.ray_serve:app programs=runs/assistant,runs/digits replicas=2

`serve` is Ray's own command, and everything about clusters, configs and autoscaling stands in its help. From Python:

    ray.serve.run(sw2.faces.ray_serve.application(Scale(programs="runs/assistant", replicas=2)))

    a client → Ray's proxy ─┬→ replica: a process with the whole `faces.server`, its engine and its queue
                            └→ replica: the same

Choices
- A replica is what `sw2 serve` is: the same routes, refusals and answers, so a client cannot tell them apart.
- Programs are opened once where the application is made, so that what is wrong with one is told there and not in the
  log of a replica that Ray starts again and again.
- Keys are those in SW2_SERVE_KEYS where a replica runs. They are no argument: Ray keeps arguments and shows them. Where
  there are none, clients on the replica's own machine alone are answered.
- A replica one of whose workers has died fails Ray's question for its health, and is replaced.

Sources: https://docs.ray.io/en/latest/serve/ for the forms.

What it does not do: one program over several machines; a cache that replicas share (a conversation that meets another
replica is read anew); metrics over replicas (`/metrics` is that of whichever answers).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, final

from sw2.base.config import check_ranges, from_dict, parse_setting
from sw2.base.names import resolve

if TYPE_CHECKING:
    from ray.serve import Application
    from starlette.types import ASGIApp, Receive, Send
    from starlette.types import Scope as AsgiScope

__all__ = ["Scale", "app", "application"]

_KEYS: Final = "SW2_SERVE_KEYS"


@final
@dataclass(frozen=True, kw_only=True)
class Scale:
    """How programs are served.

    Args:
        programs: folders, models' files, prompts or named weights, with commas between them. Paths are made whole from
            where the application is made, and have to be there on every machine.
        replicas: how many processes, ≥ 1; each holds all of the programs.
        cores: how many processor cores each is given, > 0; whole ones are also its number of threads.
        gpus: how many GPUs each is given, ≥ 0; without one it sees none.
        slots: how many texts of a program run at once in each, ≥ 1.
        queue: how many more of a program may wait in each, ≥ 0.
    """

    programs: str = ""
    replicas: int = 2
    cores: float = 1.0
    gpus: float = 0.0
    slots: int = 8
    queue: int = 64

    def __post_init__(self) -> None:
        check_ranges(
            "serve",
            self,
            {
                "programs": (any(each.strip() for each in self.programs.split(",")), "a program at least"),
                "replicas": (self.replicas >= 1, "a whole number from 1"),
                "cores": (self.cores > 0, "a number above 0"),
                "gpus": (self.gpus >= 0, "a number from 0"),
                "slots": (self.slots >= 1, "a whole number from 1"),
                "queue": (self.queue >= 0, "a whole number from 0"),
            },
        )


def app(arguments: Mapping[str, Any]) -> Application:
    """What `serve run sw2.faces.ray_serve:app NAME=VALUE …` runs; the names are those of `Scale`.

    Raises:
        UsageError: a name is unknown, a value is out of range; and what `application` raises.
    """
    said = {
        name: parse_setting(f"{name}={value}")[1] if isinstance(value, str) and name != "programs" else value
        for name, value in arguments.items()
    }
    return application(from_dict(Scale, said, "serve"))


def application(scale: Scale) -> Application:
    """Programs as an application of Ray Serve, to be run by `ray.serve.run`.

    Raises:
        MissingExtra: Ray is not installed.
        UsageError: two programs have one name.
        ProgramError: one of them cannot be opened.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray would tell its makers that it runs
    serve, named = resolve("ray.serve:deployment"), resolve("sw2.faces.server.programs:named")
    ingress = resolve("ray.serve:ingress")
    places = named([_whole(each.strip()) for each in scale.programs.split(",") if each.strip()])
    _opened(places)

    def build() -> ASGIApp:
        return _Replica(places, scale)

    @ingress(build)  # called in the replica: an engine does not travel
    class Programs:
        """One replica."""

        def check_health(self) -> None:
            """Ask by Ray, now and then.

            Raises:
                RuntimeError: a worker has died.
            """
            if not self.app.server.alive():  # type: ignore[attr-defined]
                raise RuntimeError("a worker has died")

    deployment = serve(
        Programs,
        name="sw2",
        num_replicas=scale.replicas,
        ray_actor_options={"num_cpus": scale.cores, "num_gpus": scale.gpus},
        max_ongoing_requests=scale.slots + scale.queue,  # whatever is more would wait in Ray, without a bound
    )
    return deployment.bind()


def _whole(program: str) -> str:
    """A path from the root, of a prompt on another program both; a name as it is."""
    parts = [program] if Path(program).exists() else program.split("@")
    return "@".join(str(Path(part).absolute()) if Path(part).exists() else part for part in parts)


def _opened(places: Mapping[str, str]) -> dict[str, Any]:
    from sw2.catalog import catalog
    from sw2.core.task import Context

    return {name: catalog().program(place, Context()) for name, place in places.items()}


@final
class _Replica:
    """The server in a replica, for clients of this machine where it has no keys.

    Attributes:
        server: the whole of it.
    """

    def __init__(self, places: Mapping[str, str], scale: Scale) -> None:
        from sw2.faces.server.app import Server, Settings
        from sw2.faces.server.keys import check_binding

        keys = os.environ.get(_KEYS, "").split()
        check_binding("127.0.0.1", keys)
        self._open = bool(keys)
        self.server = Server(_opened(places), Settings(slots=scale.slots, queue_size=scale.queue, keys=keys))

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        from sw2.faces.server.errors import ApiError
        from sw2.faces.server.keys import is_local

        # Ray listens, not we: at which address is not known here, but where a client asks from is.
        client = scope.get("client") or ("",)
        if scope["type"] == "http" and not self._open and not is_local(client[0]):
            refusal = ApiError(403, f"Without keys only this machine is answered; set {_KEYS}.", code="no_keys")
            await refusal.response()(scope, receive, send)
            return
        await self.server(scope, receive, send)
