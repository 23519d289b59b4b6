"""Programs that are no Python packages and that tests of ops need."""

from __future__ import annotations

import os
import shutil

import pytest

REQUIRED = bool(os.environ.get("OPERATIONS_REQUIRED"))
"""Set where a missing program shall fail its tests instead of skipping them: see .ci/run."""


def needs(*programs: str) -> pytest.MarkDecorator:
    """Skip a test on a machine that has none of these, unless they are required."""
    absent = not any(map(shutil.which, programs))
    return pytest.mark.skipif(absent and not REQUIRED, reason=f"needs {' or '.join(programs)}")
