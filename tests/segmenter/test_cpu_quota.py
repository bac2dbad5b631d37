"""Quotas as the kernel writes them, in a folder of our own."""

import math
from pathlib import Path

import pytest

from labelstudio_sam2.segmenter.cpu_quota import cpu_quota


@pytest.fixture
def own_cgroup(tmp_path: Path) -> Path:
    """Names the group `/pod/backend`."""
    file = tmp_path / "own"
    file.write_text("1:name=systemd:/elsewhere\n0::/pod/backend\n")
    return file


def write(folder: Path, cpu_max: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cpu.max").write_text(cpu_max)


@pytest.mark.parametrize(
    ("cpu_max", "cpus"), [("150000 100000\n", 1.5), ("50000 100000\n", 0.5), ("max 100000\n", math.inf)]
)
def test_the_quota_is_the_part_of_a_period(tmp_path: Path, own_cgroup: Path, cpu_max: str, cpus: float) -> None:
    write(tmp_path / "pod" / "backend", cpu_max)

    assert cpu_quota(tmp_path, own_cgroup) == cpus


def test_in_a_container_the_own_group_is_the_root(tmp_path: Path) -> None:
    (tmp_path / "own").write_text("0::/\n")
    write(tmp_path, "200000 100000\n")

    assert cpu_quota(tmp_path, tmp_path / "own") == 2


def test_the_least_quota_of_the_groups_above_holds(tmp_path: Path, own_cgroup: Path) -> None:
    write(tmp_path / "pod", "100000 100000\n")
    write(tmp_path / "pod" / "backend", "400000 100000\n")

    assert cpu_quota(tmp_path, own_cgroup) == 1


@pytest.mark.parametrize("cpu_max", ["", "max", "many 100000", "100000 0"])
def test_what_cannot_be_read_is_no_quota(tmp_path: Path, own_cgroup: Path, cpu_max: str) -> None:
    write(tmp_path / "pod" / "backend", cpu_max)

    assert cpu_quota(tmp_path, own_cgroup) == math.inf


@pytest.mark.parametrize("groups", ["", "9:cpu:/pod\n", None], ids=["none", "version 1", "no file"])
def test_without_control_groups_there_is_no_quota(tmp_path: Path, groups: str | None) -> None:
    if groups is not None:
        (tmp_path / "own").write_text(groups)

    assert cpu_quota(tmp_path, tmp_path / "own") == math.inf
