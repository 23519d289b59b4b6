"""What makes a server unsafe, judged from its INFO and CONFIG replies."""

from __future__ import annotations

from typing import Any

import pytest

from penstock.health import head_room, problems, version

SAFE = {
    "redis_version": "7.4.1",
    "role": "master",
    "aof_enabled": 1,
    "maxmemory": 0,
    "maxmemory_policy": "noeviction",
    "used_memory": 50,
    "total_system_memory": 100,
}


def test_a_safe_server_has_no_problems() -> None:
    """An append-only file, no eviction and a new enough version are all it takes."""
    assert problems(SAFE, {"appendfsync": "everysec", "save": ""}) == []
    assert head_room(SAFE) is None


@pytest.mark.parametrize(
    ("info", "config", "name", "level", "text"),
    [
        ({"redis_version": "6.2.14"}, {}, "version", "problem", "Redis 6.2.14 is too old"),
        ({"valkey_version": "7.0.0"}, {}, "version", "problem", "Valkey 7.0.0 is too old"),
        ({"role": "slave"}, {}, "role", "problem", "takes no writes"),
        ({"maxmemory_policy": "allkeys-lru", "maxmemory": 9}, {}, "eviction", "problem", "lru"),
        ({"maxmemory_policy": "allkeys-lru"}, {}, "eviction", "warning", "throws jobs away"),
        ({"aof_enabled": 0}, {"save": ""}, "persistence", "warning", "every job is lost"),
        ({"aof_enabled": 0}, {"save": "60 1"}, "persistence", "warning", "since the last snapshot"),
        ({"aof_enabled": 0}, {}, "persistence", "warning", "since the last snapshot"),
        ({}, {"appendfsync": "no"}, "persistence", "warning", "half minute"),
        ({"aof_last_write_status": "err"}, {}, "persistence", "problem", "append-only file failed"),
    ],
)
def test_each_danger_is_named(
    info: dict[str, Any], config: dict[str, str], name: str, level: str, text: str
) -> None:
    """Each has its own name, weight, text and advice."""
    (problem,) = problems({**SAFE, **info}, config)
    assert (problem.name, problem.level) == (name, level)
    assert text in problem.text
    assert problem.advice


@pytest.mark.parametrize(
    ("info", "text"),
    [
        ({"used_memory": 90}, "90% of the machine's memory (100 B) is in use"),
        ({"maxmemory": 60}, "83% of maxmemory (60 B) is in use"),
        ({"maxmemory": 2**31, "used_memory": 2**31}, "100% of maxmemory (2.0 GiB) is in use"),
    ],
)
def test_little_head_room_is_a_warning(info: dict[str, int], text: str) -> None:
    """The limit that counts is maxmemory, or else the machine's."""
    problem = head_room({**SAFE, **info})
    assert problem is not None
    assert (problem.level, problem.text) == ("warning", text)


def test_valkey_is_called_by_its_name() -> None:
    """Valkey also tells a Redis version, which is not its own."""
    assert version({"redis_version": "7.2.4", "valkey_version": "9.1.0"}) == "Valkey 9.1.0"
