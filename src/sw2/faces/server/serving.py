"""A server in uvicorn, from the socket to the signal that ends it.

uvicorn runs in a thread of its own and the main thread waits for signals, so that *we* say what one means:

    SIGTERM, Ctrl-C    `/readyz` and new requests answer 503; those under way end, or are ended after the drain time;
                       then the process ends with 0
    a second one       the process ends at once

The socket is opened before anything is said, so that a port that is taken is an error and port 0 becomes a number.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any, Final

import uvicorn

from sw2.base.errors import ResourceError
from sw2.faces.server.app import Server
from sw2.faces.server.log import FromLogging, Lines

__all__ = ["listen", "serve"]

_LAST_WORDS: Final = 2
"""Seconds that connections have to close once all requests are answered."""


def listen(host: str, port: int) -> socket.socket:
    """Open the socket; port 0 takes a free one.

    Raises:
        ResourceError: the address is taken, or not this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server((host, port), family=family, backlog=512)
        # Connections inherit it. Without it what follows the head of an answer may wait 40 ms for the client to say
        # that it has the head; asyncio sets it only for sockets that name their protocol, which these do not.
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return listening
    except (OSError, OverflowError) as error:
        raise ResourceError(
            "Cannot listen here.",
            where=f"{host}:{port}",
            wanted="a free port of an address of this machine",
            got=str(error),
            do="Choose another with --port; --port 0 takes a free one.",
        ) from error


def serve(server: Server, listening: socket.socket, drain_seconds: float, ready: Callable[[], None]) -> bool:
    """Serve until a signal comes.

    Args:
        server: the app.
        listening: from `listen`; closed at the end.
        drain_seconds: how long requests under way may take once the signal came.
        ready: called when requests are answered.

    Returns:
        Whether all requests under way ended in time.
    """
    config = uvicorn.Config(
        server,
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="on",
        ws="none",
        timeout_graceful_shutdown=_LAST_WORDS,
    )
    running = uvicorn.Server(config)
    loop = asyncio.new_event_loop()
    failed: list[BaseException] = []

    def run() -> None:
        asyncio.set_event_loop(loop)
        try:
            loop.run_until_complete(running.serve(sockets=[listening]))
        except BaseException as error:  # the main thread's to raise
            failed.append(error)
        finally:
            stop.set()

    stop, again = threading.Event(), threading.Event()
    thread = threading.Thread(target=run, name="uvicorn", daemon=True)
    with _signals(lambda: (again if stop.is_set() else stop).set()), _uvicorn_told(server.lines):
        thread.start()
        while not running.started and thread.is_alive():
            thread.join(0.01)
        if not failed:
            ready()
        stop.wait()
        in_time = not failed and _drain(server, loop, drain_seconds, again)
        running.should_exit = True
        running.force_exit = again.is_set()
        thread.join(_LAST_WORDS + 5)
    if failed:
        raise failed[0]
    return in_time


def _drain(server: Server, loop: asyncio.AbstractEventLoop, seconds: float, again: threading.Event) -> bool:
    """Drain until all is done, or a second signal comes."""
    draining = asyncio.run_coroutine_threadsafe(server.drain(seconds), loop)
    while not draining.done():
        if again.wait(0.02):
            draining.cancel()
            return False
    return draining.result()


@contextlib.contextmanager
def _uvicorn_told(lines: Lines) -> Iterator[None]:
    """What uvicorn logs goes into `lines` inside, and nowhere else."""
    logger, handler = logging.getLogger("uvicorn.error"), FromLogging(lines)
    before, logger.propagate = logger.propagate, False
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = before


@contextlib.contextmanager
def _signals(come: Callable[[], Any]) -> Iterator[None]:
    """Call `come` for SIGTERM and SIGINT inside."""
    before = {each: signal.signal(each, lambda *_: come()) for each in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
