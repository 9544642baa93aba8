"""Native code: compiled once and kept, and every way in which it cannot be is said."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from sw2.base import native
from sw2.base.errors import ResourceError
from sw2.base.native import compiled, processor_flags, switched_off

if native._compiler() is None:
    pytest.skip("there is no C++ compiler", allow_module_level=True)


def source(folder: Path, text: str = 'extern "C" int answer() { return 42; }') -> Path:
    path = folder / "small.cpp"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_source_is_compiled_once_and_a_changed_one_anew(
    tmp_path: Path, own_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert compiled(source(tmp_path), "portable", ()).answer() == 42
    took = native.spent()
    assert took > 0
    (kept,) = (own_home / "native").iterdir()
    assert kept.name.startswith("small-portable-")
    written = kept.stat().st_mtime_ns
    assert compiled(source(tmp_path), "portable", ()).answer() == 42
    assert kept.stat().st_mtime_ns == written
    assert native.spent() - took < 0.05
    assert compiled(source(tmp_path, 'extern "C" int answer() { return 43; }'), "portable", ()).answer() == 43
    assert compiled(source(tmp_path), "other", ("-DNAME",)).answer() == 42
    assert len(list((own_home / "native").iterdir())) == 3
    including = '#include "number.h"\nextern "C" int answer() { return NUMBER; }'
    for number in (44, 45):
        (tmp_path / "number.h").write_text(f"#define NUMBER {number}\n", encoding="utf-8")
        assert compiled(source(tmp_path, including), "portable", ()).answer() == number


def test_what_cannot_be_compiled_or_loaded_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ResourceError, match="do not compile here") as caught:
        compiled(source(tmp_path, "this is no program"), "portable", ())
    assert "error" in str(caught.value.got)
    calls_what_is_absent = 'extern "C" int absent(); extern "C" int answer() { return absent(); }'
    with pytest.raises(ResourceError, match="cannot be loaded") as caught:
        compiled(source(tmp_path, calls_what_is_absent), "portable", ("-Wl,-z,now",))
    assert "absent" in str(caught.value.got)
    monkeypatch.setenv("CXX", "a-compiler-that-is-not-there")
    with pytest.raises(ResourceError, match="need a C\\+\\+ compiler"):
        compiled(source(tmp_path), "portable", ())
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(ResourceError, match="need another system"):
        compiled(source(tmp_path), "portable", ())


@pytest.mark.parametrize(("value", "off"), [("off", True), ("OFF", True), ("", False), ("on", False)])
def test_native_code_can_be_switched_off(monkeypatch: pytest.MonkeyPatch, value: str, off: bool) -> None:
    monkeypatch.setenv("SW2_NATIVE", value)
    assert switched_off() == off


def test_flags_of_this_processor_are_names() -> None:
    assert all(flag and " " not in flag for flag in processor_flags())
