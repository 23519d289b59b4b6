"""ops/redis/users.acl and the code agree: each role may do what its code does, and no more.

Where they do not any more, `python -m tests.roles` writes the file anew.
"""

from __future__ import annotations

import pytest

from tests.contract.test_docs import names, rows
from tests.roles import granted, needed

pytestmark = pytest.mark.operations


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
