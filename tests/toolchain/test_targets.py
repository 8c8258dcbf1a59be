"""The table of targets and the names that lead into it."""

import platform
import sys

import pytest

from penjing.core.errors import InvalidInput, ToolchainError
from penjing.toolchain import TARGETS, find_target, host_target, target_names

PROMISED = ("x86_64-linux", "aarch64-linux", "armv7-linux", "riscv64-linux", "wasm32")


@pytest.mark.parametrize("name", PROMISED)
def test_every_promised_target_is_found_by_its_name(name):
    assert find_target(name).name == name


def test_names_are_unique_and_host_is_one_of_them():
    assert len(set(target_names())) == len(TARGETS) + 1
    assert "host" in target_names()


@pytest.mark.parametrize("name", ["", "x86", "X86_64-LINUX", "host ", "aarch64-linux\n", "a" * 10_000])
def test_an_unknown_name_is_refused_with_the_names_there_are(name):
    with pytest.raises(InvalidInput) as caught:
        find_target(name)
    assert caught.value.hint is not None
    assert all(known in caught.value.hint for known in target_names())
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    ("system", "machine", "maxsize", "expected"),
    [
        ("Linux", "x86_64", 2**63 - 1, "x86_64-linux"),
        ("Linux", "aarch64", 2**63 - 1, "aarch64-linux"),
        ("Linux", "aarch64", 2**31 - 1, "armv7-linux"),  # a 32-bit system under a 64-bit kernel
        ("Linux", "armv7l", 2**31 - 1, "armv7-linux"),
        ("Linux", "riscv64", 2**63 - 1, "riscv64-linux"),
        ("Darwin", "arm64", 2**63 - 1, "aarch64-macos"),
    ],
)
def test_the_host_is_told_from_system_processor_and_word_size(monkeypatch, system, machine, maxsize, expected):
    monkeypatch.setattr(platform, "system", lambda: system)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(sys, "maxsize", maxsize)
    assert host_target().name == expected
    assert find_target("host").name == expected


@pytest.mark.parametrize(
    ("system", "machine", "maxsize"),
    [
        ("Linux", "x86_64", 2**31 - 1),  # a 32-bit Python could not load a 64-bit library
        ("Linux", "armv6l", 2**31 - 1),
        ("Linux", "s390x", 2**63 - 1),
        ("Plan9", "x86_64", 2**63 - 1),
        ("", "", 2**63 - 1),
    ],
)
def test_a_machine_outside_the_table_is_named_in_the_error(monkeypatch, system, machine, maxsize):
    monkeypatch.setattr(platform, "system", lambda: system)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(sys, "maxsize", maxsize)
    with pytest.raises(ToolchainError, match="no target for this machine") as caught:
        find_target("host")
    assert machine in caught.value.what
