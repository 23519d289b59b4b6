"""LiteLLM's proxy, in a virtual environment of its own: what it needs clashes with what we need.

It is made once, in `.bench/` of the working directory, and takes some 750 MB.
"""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
from pathlib import Path

from penstock.errors import PenstockError

VERSION = "1.108.7"
"""Newest when this was written; a version, so that a later run measures the same."""

HOME = Path(".bench") / f"litellm-{VERSION}"

KEY = f"sk-{secrets.token_hex(32)}"
"""It does not start without one."""

ENVIRONMENT = {
    "LITELLM_MASTER_KEY": KEY,
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # else it is fetched from the internet
    "LITELLM_LOG": "ERROR",
    "LITELLM_TELEMETRY": "False",
}

INSTALL_TIMEOUT = 600


class NotInstalled(PenstockError):
    """There is no LiteLLM here, and none could be installed."""


def install() -> Path:
    """The program, installed if it is not there; raises NotInstalled."""
    program = HOME.absolute() / "bin" / "litellm"
    if not program.exists():
        _run(sys.executable, "-m", "venv", "--clear", str(HOME))
        _run(str(HOME / "bin" / "pip"), "install", "--quiet", f"litellm[proxy]=={VERSION}")
    return program


def _run(*argv: str) -> None:
    try:
        subprocess.run(argv, check=True, capture_output=True, timeout=INSTALL_TIMEOUT)
    except (OSError, subprocess.SubprocessError) as error:
        raise NotInstalled(f"LiteLLM {VERSION} cannot be installed here: {error}") from None


def config(upstream: str, model: str) -> str:
    """Its configuration: one model, on the simulator. JSON is YAML."""
    parameters = {"model": f"openai/{model}", "api_base": upstream, "api_key": "simulated"}
    return json.dumps({
        "model_list": [{"model_name": model, "litellm_params": parameters}],
        "litellm_settings": {"telemetry": False, "num_retries": 0},
    })  # fmt: skip
