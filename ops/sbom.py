"""The part of requirements.lock that an image holds: what these extras of Penstock need.

    python -m ops.sbom worker gateway

`make sbom` makes bills of materials of it.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
LOCK = ROOT / "requirements.lock"
DOCKERFILE = ROOT / "ops" / "docker" / "Dockerfile"


def needed(extras: Iterable[str]) -> set[str]:
    """The names of all packages that Penstock with these extras needs, in the image's Python."""
    environment, found = _environment(), set[str]()
    ahead = [Requirement(f"penstock[{','.join(extras)}]")]
    while ahead:
        package = ahead.pop()
        for requirement in _requirements(package.name):
            for extra in ("", *package.extras):
                asked = requirement.marker
                if asked is None or asked.evaluate({**environment, "extra": extra}):
                    # With new extras a package is looked at again.
                    name = f"{canonicalize_name(requirement.name)}{sorted(requirement.extras)}"
                    if name not in found:
                        found.add(name)
                        ahead.append(requirement)
    return {name.partition("[")[0] for name in found}


def pinned(names: set[str]) -> Iterator[str]:
    """The lines of requirements.lock about these packages, with their hashes."""
    wanted = False
    for line in LOCK.read_text().splitlines():
        if pin := re.match(r"([\w.-]+)==", line):
            wanted = canonicalize_name(pin[1]) in names
        if wanted:
            yield line


def _requirements(name: str) -> list[Requirement]:
    """What an installed package asks for; of one that only the image has, nothing is known."""
    try:
        return [Requirement(text) for text in requires(name) or ()]
    except PackageNotFoundError:
        return []


def _environment() -> dict[str, str]:
    """The image's Python, where it differs from this one."""
    python = re.search(r"^FROM python:(\d+\.\d+)(\.\d+)-slim", DOCKERFILE.read_text(), re.MULTILINE)
    assert python is not None  # noqa: S101 - the Dockerfile is ours
    return {"python_version": python[1], "python_full_version": python[1] + python[2]}


if __name__ == "__main__":
    sys.stdout.writelines(f"{line}\n" for line in pinned(needed(sys.argv[1:])))
