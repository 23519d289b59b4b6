"""The state directory: made if missing, checked before anything is started in it."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from penstock.errors import ConfigurationError

MAX_SOCKET_PATH = 107
"""Bytes: `sun_path` of unix(7) has 108, and the last one is the closing NUL."""

LEAST_SPACE = 64 * 1024
"""Bytes: with less than this the disk counts as full; the server cannot even start a new file."""


def prepare_directory(directory: Path) -> None:
    """Make the directory with mode 0700, or check the one that is there.

    Raises ConfigurationError if it cannot be used. The mode of a directory that exists already is
    left alone, because it may be shared on purpose; the server's own files are private anyhow.
    """
    try:
        if not directory.is_dir():
            directory.mkdir(mode=0o700, parents=True)
        mode = directory.stat().st_mode
    except OSError as error:
        raise unusable(directory, error) from error
    if not os.access(directory, os.W_OK | os.X_OK):
        raise unusable(directory, PermissionError(errno.EACCES, os.strerror(errno.EACCES)))
    if mode & stat.S_IWOTH:
        raise ConfigurationError(
            f"other users can write to the state directory {directory}: "
            f"chmod 700 {directory}, or set PENSTOCK_STATE_DIR to a directory of your own"
        )


def check_socket_path(path: Path) -> None:
    """Raises ConfigurationError if the path does not fit into a Unix socket's address."""
    length = len(os.fsencode(path))
    if length > MAX_SOCKET_PATH:
        raise ConfigurationError(
            f"the socket path {path} has {length} bytes, and {MAX_SOCKET_PATH} are possible: "
            "choose a shorter PENSTOCK_STATE_DIR"
        )


def disk_full(directory: Path) -> bool:
    """Whether there is no room left for the server's files."""
    disk = os.statvfs(directory)
    return disk.f_bavail * disk.f_frsize < LEAST_SPACE


def unusable(directory: Path, error: OSError) -> ConfigurationError:
    """What to tell a person about a file system call that failed in this directory."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return ConfigurationError(full(directory))
    return ConfigurationError(
        f"{directory} cannot be the state directory: {error.strerror}; "
        "set PENSTOCK_STATE_DIR to a directory you can write to"
    )


def full(directory: Path) -> str:
    """What to tell a person about a full disk."""
    return (
        f"the disk of {directory} is full: free some space, "
        "or set PENSTOCK_STATE_DIR to a directory on another disk"
    )
