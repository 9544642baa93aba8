"""Key sets for the benchmark of learned indexes, generated and real.

    uniform · lognormal    whole numbers, as many as are wanted
    staircase              hard for lines: runs of 16 to 256 keys, each with a distance of its own from 1 to 2^20
                           between its keys, and 2^30 between runs
    coast                  10,995,687 points of the world's coastlines (Debian's gmt-gshhg-full), longitude and
                           latitude in steps of 1/65,536 degree, their bits in turn (Morton order); 10,748,168 differ
    ipv4                   385,602 starts of ranges of IPv4 that have one country (Debian's tor-geoipdb)
    ipv6                   276,626 starts of ranges of IPv6, the first 64 bits of their 128; 269,316 differ

Generated sets are drawn a million at a time into the place where they are then sorted: they take the memory of their
keys and little more. All sets begin at a line of memory, as the keys of a mapped .npy file do.

The counts are those of gmt-gshhg-full 2.3.7 and tor-geoipdb 0.4.9.11. Packages come by the system's own apt, are
unpacked where nothing is installed, and are kept in sw2's home. The coast's file is HDF5 and is read by a Python with
h5py.

What it does not do: systems other than Debian's; there the real sets are left out, with the reason.
"""

from __future__ import annotations

import ipaddress
import shutil
import subprocess
from pathlib import Path
from typing import Final

import numpy as np

from sw2.base.store import home

__all__ = ["GENERATED", "REAL", "generated", "real", "unpacked"]

GENERATED: Final = ("uniform", "lognormal", "staircase")
REAL: Final = ("coast", "ipv4", "ipv6")

_AT_ONCE: Final = 1 << 20

_PACKAGE: Final = {"coast": "gmt-gshhg-full", "ipv4": "tor-geoipdb", "ipv6": "tor-geoipdb"}

# Segments of coast lie in bins of one degree, from the north pole eastwards; points count from their bin's south-west.
_COAST: Final = """
import sys
import h5py
import numpy as np

with h5py.File(sys.argv[1]) as file:
    starts = file["Id_of_first_point_in_a_segment"][:].astype(np.int64)
    first, count = (file[name][:].astype(np.int64) for name in ("Id_of_first_segment_in_a_bin", "N_segments_in_a_bin"))
    sides = [
        file[f"Relative_{side}_from_SW_corner_of_bin"][:].view(np.uint16).astype(np.int64)
        for side in ("longitude", "latitude")
    ]
bins = np.empty(len(starts), np.int64)
for number in np.flatnonzero(count):
    bins[first[number] : first[number] + count[number]] = number
at = np.repeat(bins, np.diff(np.append(starts, len(sides[0]))))
np.save(sys.argv[2], np.stack([(at % 360 << 16) + sides[0], (179 - at // 360 << 16) + sides[1]]))
"""


def generated(name: str, count: int) -> np.ndarray:
    """A set of `GENERATED`: [count], int64, sorted; the same each time."""
    random = np.random.default_rng(22)
    keys = _room(count, np.dtype(np.int64))
    if name in ("uniform", "lognormal"):
        for start in range(0, count, _AT_ONCE):
            part = keys[start : start + _AT_ONCE]
            if name == "uniform":
                part[:] = random.integers(0, 1 << 62, len(part))
            else:
                part[:] = np.exp(2 * random.normal(size=len(part))) * 1e9
        keys.sort()
        return keys
    lengths = random.integers(16, 257, count // 100 + 1)
    gaps = 1 << random.integers(0, 21, len(lengths))
    starts = np.cumsum(lengths)
    for start, length, gap in zip(starts - lengths, lengths, gaps, strict=True):
        keys[start : start + length] = gap
    keys[starts[starts < count]] = 1 << 30
    return np.cumsum(keys, out=keys)


def real(name: str, python: str) -> np.ndarray | str:
    """A set of `REAL`, sorted, int64, of ipv6 uint64; or why it cannot be had here.

    Args:
        name: of the set.
        python: an interpreter that has numpy and h5py, for the coast.
    """
    try:
        folder = unpacked(_PACKAGE[name])
        if name == "coast":
            return _coast(folder / "usr/share/gmt-gshhg/binned_GSHHS_f.nc", python)
        file = folder / "usr/share/tor" / ("geoip" if name == "ipv4" else "geoip6")
        starts = [line.split(",")[0] for line in file.read_text().splitlines() if line and line[0] != "#"]
    except (OSError, subprocess.CalledProcessError) as error:
        said = getattr(error, "stderr", None) or str(error)
        return said.strip().splitlines()[-1]
    if name == "ipv4":
        return _in_lines(np.sort(np.array(starts, np.int64)))
    return _in_lines(np.sort(np.array([int(ipaddress.IPv6Address(start)) >> 64 for start in starts], np.uint64)))


def unpacked(package: str) -> Path:
    """The folder with the files of a package of Debian."""
    folder = home() / "benchmarks" / package
    if not folder.exists():
        partial = folder.with_name(f"{package}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        subprocess.run(["apt-get", "download", package], cwd=partial, check=True, capture_output=True, text=True)
        (archive,) = partial.glob("*.deb")
        subprocess.run(["dpkg-deb", "-x", archive, partial], check=True, capture_output=True, text=True)
        archive.unlink()
        partial.rename(folder)
    return folder


def _room(count: int, dtype: np.dtype) -> np.ndarray:
    """Room for keys from the beginning of a line of memory on."""
    room = np.empty(count + 7, dtype)
    start = -room.ctypes.data // 8 % 8
    return room[start : start + count]


def _in_lines(keys: np.ndarray) -> np.ndarray:
    """The keys from the beginning of a line of memory on."""
    room = _room(len(keys), keys.dtype)
    room[:] = keys
    return room


def _coast(file: Path, python: str) -> np.ndarray:
    points = file.with_suffix(".npy")
    if not points.exists():
        partial = points.with_suffix(".partial.npy")
        command = [python, "-c", _COAST, str(file), str(partial)]
        subprocess.run(command, check=True, capture_output=True, text=True)
        partial.rename(points)
    longitude, latitude = np.load(points).astype(np.uint64)
    return _in_lines(np.sort((_apart(longitude) | _apart(latitude) << np.uint64(1)).astype(np.int64)))


def _apart(numbers: np.ndarray) -> np.ndarray:
    """Numbers of 32 bits with a zero before each of their bits."""
    for by, mask in (
        (16, 0x0000FFFF0000FFFF),
        (8, 0x00FF00FF00FF00FF),
        (4, 0x0F0F0F0F0F0F0F0F),
        (2, 0x3333333333333333),
        (1, 0x5555555555555555),
    ):
        numbers = (numbers | numbers << np.uint64(by)) & np.uint64(mask)
    return numbers
