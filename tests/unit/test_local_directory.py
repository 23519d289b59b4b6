"""The checks of the state directory, and the lock files in it."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from ops.local.directory import MAX_SOCKET_PATH, check_socket_path, prepare_directory
from ops.local.lock import LockFile
from penstock.errors import ConfigurationError


def test_a_new_directory_is_private(tmp_path: Path) -> None:
    """The state directory holds prompts and answers: nobody else can enter it."""
    prepare_directory(tmp_path / "deep" / "state")
    assert stat.S_IMODE((tmp_path / "deep" / "state").stat().st_mode) == 0o700


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    """A state directory that cannot be made is an error that names the setting."""
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match=r"file/state cannot be .*PENSTOCK_STATE_DIR"):
        prepare_directory(tmp_path / "file" / "state")


def test_a_directory_without_write_permission_is_refused() -> None:
    """A directory that cannot be written to is refused before anything is started in it."""
    if os.access("/proc/self", os.W_OK):
        pytest.skip("this system lets us write to /proc")
    with pytest.raises(ConfigurationError, match="cannot be the state directory"):
        prepare_directory(Path("/proc/self"))


def test_a_directory_open_to_all_is_refused(tmp_path: Path) -> None:
    """In a directory like /tmp others could put their own socket in our server's place."""
    tmp_path.chmod(0o777)
    with pytest.raises(ConfigurationError, match="other users can write"):
        prepare_directory(tmp_path)


def test_the_longest_socket_path_fits_and_the_next_does_not() -> None:
    """The limit is the kernel's, to the byte, and counts bytes, not characters."""
    check_socket_path(Path("/" + "x" * (MAX_SOCKET_PATH - 1)))
    with pytest.raises(ConfigurationError, match=r"108 bytes.*shorter PENSTOCK_STATE_DIR"):
        check_socket_path(Path("/" + "x" * MAX_SOCKET_PATH))
    with pytest.raises(ConfigurationError, match="shorter PENSTOCK_STATE_DIR"):
        check_socket_path(Path("/" + "ä" * 60))


def test_a_lock_has_one_holder(tmp_path: Path) -> None:
    """The second to ask does not get the lock, until the first lets go."""
    first, second = LockFile(tmp_path / "lock"), LockFile(tmp_path / "lock")
    assert first.acquire()
    first.write("first")
    assert not second.acquire()
    assert second.read() == "first"
    first.release()
    assert second.acquire()
    second.release()


def test_an_inherited_lock_lives_as_long_as_the_child(tmp_path: Path) -> None:
    """A child that inherited the lock keeps it after its parent let go, and drops it by ending."""
    lock = LockFile(tmp_path / "lock")
    assert lock.acquire()
    child = subprocess.Popen(
        [sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=[lock.fileno()]
    )
    lock.release()
    assert not lock.acquire()
    child.communicate(b"\n")
    assert lock.acquire()
    lock.release()
