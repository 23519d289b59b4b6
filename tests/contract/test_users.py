"""ops/redis/users.acl and the code agree: each role may do what its code does, and no more.

Where they do not any more, `python -m tests.roles` writes the file anew.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.contract.test_docs import names, rows
from tests.roles import ROOT, granted, needed

pytestmark = pytest.mark.operations

OPEN = {
    "make-users.sh": {".", "redis", "redis/users.acl"},
    "make-certificates.sh": {".", "tls", "tls/ca.crt", "tls/server.crt", "tls/client.crt"},
}
"""What the server and the units need, which run as other users than whoever runs a script."""

REFUSING = """#!/bin/sh
for path in "$@"; do
    [ "$path" != "{folder}" ] || {{ echo "$path: Read-only file system" >&2; exit 1; }}
done
exec {chmod} "$@"
"""
"""What chmod does on a root file system that is read only."""


@pytest.mark.parametrize("role", needed())
def test_a_role_has_exactly_what_its_code_uses(role: str) -> None:
    """Commands, keys and channels are those in the scripts and calls of the code, neither more."""
    shown, wanted = granted()[role], needed()[role]
    for kind in shown._fields:
        missing = getattr(wanted, kind) - getattr(shown, kind)
        spare = getattr(shown, kind) - getattr(wanted, kind)
        assert (missing, spare) == (set(), set()), f"{kind} of {role}"


def test_the_users_are_documented() -> None:
    """docs/operations.md has each user that may come in, in the order of the file."""
    table = rows("operations.md", "| user | for | may |")
    assert [names(row[0])[0] for row in table] == [role for role in granted() if role != "default"]


@pytest.mark.parametrize("script", OPEN)
def test_others_may_read_what_is_no_secret_and_nothing_else(script: str, tmp_path: Path) -> None:
    """Whatever a script makes is closed to other users but for hashes and certificates."""
    made = tmp_path / "made"
    subprocess.run([ROOT / "ops" / "redis" / script, made, "redis.internal"], check=True)
    seen = {path: path.stat().st_mode & 0o007 for path in [made, *made.rglob("*")]}
    assert {str(path.relative_to(made)) for path, mode in seen.items() if mode} == OPEN[script]
    assert all(mode in (0, 0o5 if path.is_dir() else 0o4) for path, mode in seen.items())


def test_a_container_leaves_the_folder_of_its_image_alone(tmp_path: Path) -> None:
    """Who runs make-users.sh there may write into the volumes, and not change what holds them."""
    made = tmp_path / "made"
    for folder in (made, made / "redis"):
        folder.mkdir()
        folder.chmod(0o755)
    chmod = tmp_path / "chmod"
    chmod.write_text(REFUSING.format(folder=made, chmod=shutil.which("chmod")))
    chmod.chmod(0o755)
    subprocess.run(
        [ROOT / "ops" / "redis" / "make-users.sh", made, "redis:6379"],
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}"},
        check=True,
    )
    assert (made / "redis" / "users.acl").stat().st_mode & 0o777 == 0o644
