"""Streaming text never shows half a character."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sw2.parts.decoding.text import TextStream


def byte_stream() -> TextStream:
    return TextStream(lambda token: bytes([token]))


@given(st.text())
def test_pieces_join_to_the_text_and_never_break_a_character(text: str) -> None:
    stream = byte_stream()
    pieces = [stream.push(byte) for byte in text.encode()]
    assert all(len(piece) <= 1 for piece in pieces)
    assert "".join(pieces) + stream.finish() == text


@given(st.binary())
def test_any_bytes_stream_like_they_decode_at_once(data: bytes) -> None:
    stream = byte_stream()
    assert "".join(map(stream.push, data)) + stream.finish() == data.decode("utf-8", errors="replace")


def test_an_unfinished_character_is_held_back() -> None:
    stream = byte_stream()
    assert [stream.push(byte) for byte in "€".encode()] == ["", "", "€"]
    stream.push(0xE2)
    assert stream.finish() == "\N{REPLACEMENT CHARACTER}"
