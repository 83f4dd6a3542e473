"""Files appear whole or not at all, also where the disk is full."""

import errno
import os
import subprocess

import pytest
import torch

from csd_lab.callbacks import AtomicCheckpoints
from csd_lab.files import PARTIAL, atomic_path, remove_partial


def test_an_error_leaves_the_former_file(tmp_path):
    path = tmp_path / "deep" / "file.txt"
    with atomic_path(path) as temporary:
        temporary.write_text("former")
    with pytest.raises(ZeroDivisionError), atomic_path(path) as temporary:
        temporary.write_text(f"half{1 / 0}")
    assert path.read_text() == "former"
    assert [p.name for p in path.parent.iterdir()] == ["file.txt"]


def test_a_full_disk_is_told_by_the_name_of_the_file(tmp_path, monkeypatch):
    path = tmp_path / "file.txt"
    path.write_text("former")

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left on device") as caught, atomic_path(path) as at:
        at.write_text("new")
    assert caught.value.filename == str(path)
    assert path.read_text() == "former"
    assert [p.name for p in tmp_path.iterdir()] == ["file.txt"]


def test_what_killed_writers_leave_is_removed(tmp_path):
    keep = tmp_path / "status.json"
    others = tmp_path / "other_run" / f"{PARTIAL}0123456789abcdef.ckpt"
    others.parent.mkdir()
    for path in (keep, others, tmp_path / f"{PARTIAL}0123456789abcdef.json"):
        path.touch()
    remove_partial(tmp_path)
    assert {p for p in tmp_path.rglob("*") if p.is_file()} == {keep, others}


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 256 KiB; skipped where nobody may mount one."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(place)]
    if os.name != "posix" or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small disk is not allowed here")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_checkpoint_that_does_not_fit_leaves_the_former_one(small_disk):
    path = small_disk / "last.ckpt"
    AtomicCheckpoints().save_checkpoint({"latents": torch.ones(1000)}, path)
    with pytest.raises(OSError, match="No space left on device") as caught:
        AtomicCheckpoints().save_checkpoint({"latents": torch.ones(100_000)}, path)
    assert caught.value.filename == str(path)
    assert torch.equal(torch.load(path, weights_only=True)["latents"], torch.ones(1000))
    assert [p.name for p in small_disk.iterdir()] == ["last.ckpt"]
