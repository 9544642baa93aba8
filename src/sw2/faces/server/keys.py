"""Who may ask: keys, and where a server without any may listen.

A key comes as `Authorization: Bearer KEY`. All keys are compared by their SHA-256, in constant time and always all of
them, so that the time tells nothing. In logs a key is the first eight digits of that hash.

A browser's page cannot send that header by itself. It hands its key over once (`begin_session`) and gets a random token
in a cookie that stands for the key until the server ends, or until a thousand later ones were given.

A key may stand for names: those by which its holder is known to the rules of documents (who may read which).

Without keys only this machine is served, and only under its own names: a page in a browser could otherwise reach the
server through a host name of its own that it lets point to 127.0.0.1 (DNS rebinding).
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import secrets
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Final, final

from sw2.base.errors import UsageError
from sw2.faces.server.errors import ApiError

__all__ = ["COOKIE", "NOBODY", "Keys", "check_binding", "is_local"]

COOKIE: Final = "sw2_session"

NOBODY: Final = "-"
"""Who asks a server without keys."""

_SHORTEST: Final = 16
_MOST_SESSIONS: Final = 1000
_MAKE_ONE: Final = "python -c 'import secrets; print(secrets.token_urlsafe(32))'"


def is_local(host: str) -> bool:
    """Whether a host name or address is this machine's own.

    >>> [is_local(host) for host in ("127.0.0.1", "::1", "localhost", "0.0.0.0", "example.org")]
    [True, True, True, False, False]
    """
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_binding(host: str, keys: Sequence[str]) -> None:
    """Complain about keys that are none, and about a host that others reach when there is no key.

    Raises:
        UsageError: saying what to do.
    """
    for key in keys:
        if len(key) < _SHORTEST or not key.isascii() or not key.isprintable() or " " in key:
            raise UsageError(
                "This key can be guessed, or cannot be sent.",
                wanted=f"at least {_SHORTEST} printable ASCII characters without spaces",
                got=f"{len(key)} characters",  # the key itself belongs into no terminal and no log
                do=f"Make one: {_MAKE_ONE}",
            )
    if not keys and not is_local(host):
        raise UsageError(
            "Without a key this server would answer everybody who reaches this machine.",
            where=f"--host {host}",
            wanted="a key for each client, or --host 127.0.0.1",
            got="no key",
            do=f"export SW2_SERVE_KEYS=$({_MAKE_ONE}), or name a file of keys with --key-file.",
        )


def _shown(digest: bytes) -> str:
    """A key in logs."""
    return digest.hex()[:8]


@final
class Keys:
    """The keys of a server, and how many requests each has under way.

    Args:
        keys: none for a server of this machine alone.
        at_once: the most requests of one key at once, ≥ 1; None for no limit but the queue's.
        names: by key, the names by which its holder goes; under `NOBODY` those of whoever asks without one.

    Raises:
        UsageError: two keys begin with the same digits of their hashes, so that one would be taken for the other.
    """

    def __init__(
        self, keys: Sequence[str], at_once: int | None, names: Mapping[str, Sequence[str]] | None = None
    ) -> None:
        self._hashes = [hashlib.sha256(key.encode()).digest() for key in dict.fromkeys(keys)]
        if len({_shown(each) for each in self._hashes}) < len(self._hashes):
            raise UsageError(
                "Two keys look the same in the log.", wanted="random keys", got="two of one beginning of hash"
            )
        self._names = {
            NOBODY if key == NOBODY else _shown(hashlib.sha256(key.encode()).digest()): tuple(said)
            for key, said in (names or {}).items()
        }
        self._at_once = at_once
        self._running: Counter[str] = Counter()
        self._sessions: dict[str, str] = {}

    @property
    def needed(self) -> bool:
        """Whether there are any."""
        return bool(self._hashes)

    def begin_session(self, key: str, host: str) -> str:
        """Return a token that stands for `key`, for the cookie `COOKIE`.

        Raises:
            ApiError: 401, the key is wrong.
        """
        who = self.who(f"Bearer {key}", host)
        token = secrets.token_urlsafe(32)
        self._sessions[token] = who
        while len(self._sessions) > _MOST_SESSIONS:
            del self._sessions[next(iter(self._sessions))]
        return token

    def who(self, authorization: str | None, host: str, cookies: str | None = None) -> str:
        """Return who asks, as logs name them.

        Args:
            authorization: the header.
            host: the header, perhaps with a port.
            cookies: the header, where a session counts.

        Raises:
            ApiError: 401 for no key or a wrong one, 403 for a host name that is not this machine's.
        """
        if not self._hashes:
            name = host.rpartition("]")[0].lstrip("[") if host.startswith("[") else host.partition(":")[0]
            if not is_local(name.lower()):
                raise ApiError(
                    403,
                    "Without a key this server answers under the names 127.0.0.1, [::1] and localhost only.",
                    code="foreign_host",
                )
            return NOBODY
        if authorization is None and cookies is not None:
            tokens = dict(each.strip().partition("=")[::2] for each in cookies.split(";"))
            if (who := self._sessions.get(tokens.get(COOKIE, ""))) is not None:
                return who
        scheme, _, key = (authorization or "").partition(" ")
        asked = hashlib.sha256(key.strip().encode()).digest()
        same = [hmac.compare_digest(asked, each) for each in self._hashes]
        if scheme.lower() != "bearer" or not any(same):
            raise ApiError(
                401,
                "This key is not known here." if authorization else "A key is needed: Authorization: Bearer KEY.",
                code="invalid_api_key",
                headers={"www-authenticate": "Bearer"},
            )
        return _shown(asked)

    def names(self, who: str) -> Sequence[str]:
        """The names by which somebody goes, as `who` returned them."""
        return self._names.get(who, ())

    def enter(self, who: str) -> Callable[[], None]:
        """Count a request of `who` and return what ends it.

        Raises:
            ApiError: 429, there are too many.
        """
        if who != NOBODY and self._at_once is not None and self._running[who] >= self._at_once:
            raise ApiError(
                429,
                f"This key has {self._at_once} requests under way, which is its limit. Ask again when one is done.",
                code="too_many_requests_of_key",
                headers={"retry-after": "1"},
            )
        self._running[who] += 1
        return lambda: self._leave(who)

    def _leave(self, who: str) -> None:
        self._running[who] -= 1
        if not self._running[who]:
            del self._running[who]
