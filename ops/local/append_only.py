"""The append-only file a state directory holds: where it is and which server can read it."""

from __future__ import annotations

from pathlib import Path

VALKEY_MAGIC = b"VALKEY"
"""How a base file of Valkey 9 begins (src/rdb.c); Redis's, and older Valkey's, begin with REDIS."""


class AppendOnlyFile:
    """`appendonlydir` of a state directory, as Redis 7 and Valkey lay it out (src/aof.c)."""

    def __init__(self, state_dir: Path) -> None:
        self.folder = state_dir / "appendonlydir"
        self.manifest = self.folder / "appendonly.aof.manifest"

    @property
    def needs_valkey(self) -> bool:
        """Whether Redis would take the data for damaged, because a newer Valkey wrote it."""
        return any(_starts_with(base, VALKEY_MAGIC) for base in self.folder.glob("*.base.rdb"))


def _starts_with(path: Path, magic: bytes) -> bool:
    with open(path, "rb") as file:
        return file.read(len(magic)) == magic
