"""The socket of the server."""

from __future__ import annotations

import socket

from sw2.faces.server.serving import listen


def test_answers_do_not_wait_for_the_client() -> None:
    with listen("127.0.0.1", 0) as listening, socket.create_connection(listening.getsockname()):
        accepted, _ = listening.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
