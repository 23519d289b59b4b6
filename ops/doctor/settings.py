"""Checks of the settings: which are wrong, where they come from, which name nothing."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from pathlib import Path

from pydantic import ValidationError
from pydantic_settings import EnvSettingsSource

from ops.doctor.finding import Finding
from penstock.errors import PenstockError
from penstock.settings import Settings, child_environment

PREFIX = "PENSTOCK_"


def read_settings() -> tuple[Settings | None, list[Finding]]:
    """The settings, None if they are wrong, and what there is to say about them."""
    try:
        settings = Settings()
        _ = settings.served_routes
    except ValidationError as error:
        mistakes = error.errors(include_input=False, include_url=False)
        return None, [_mistake(tuple(m["loc"]), m["msg"]) for m in mistakes]
    except (PenstockError, ValueError) as error:
        advice = f"correct {_config_path()}"
        return None, [Finding("settings", "problem", str(error), advice)]
    source = f"from {settings.config}" if settings.config.is_file() else "without penstock.toml"
    finding = Finding("settings", "ok", f"valid, {source}")
    return settings, [finding, *_strangers(), *_missing_tokens(settings)]


def _mistake(place: tuple[int | str, ...], message: str) -> Finding:
    name = ".".join(map(str, place))
    if not place:
        return Finding("settings", "problem", message, "correct it in the environment")
    field = str(place[0])
    if field in EnvSettingsSource(Settings)():
        variable = "DEEPINFRA_TOKEN" if field == "token" else f"{PREFIX}{field.upper()}"
        return Finding("settings", "problem", f"{name}: {message}", f"correct {variable}")
    return Finding("settings", "problem", f"{name}: {message}", f"correct {_config_path()}")


def _config_path() -> Path:
    return Path(child_environment().get("PENSTOCK_CONFIG", "penstock.toml"))


def _strangers() -> Iterator[Finding]:
    """Variables that look like settings and are none: typing errors go unnoticed otherwise."""
    known = [PREFIX + name.upper() for name in Settings.model_fields]
    for name in sorted(child_environment()):
        if name.startswith(PREFIX) and name.upper() not in known:
            close = difflib.get_close_matches(name, known, 1)
            advice = f"did you mean {close[0]}?" if close else "remove it"
            yield Finding("settings", "warning", f"{name} is no setting", advice)


def _missing_tokens(settings: Settings) -> Iterator[Finding]:
    for name, given in settings.routes.items():
        if given.token_env and settings.route(name).token is None:
            text = f"routes.{name}.token_env names {given.token_env}, which is not set"
            yield Finding("settings", "problem", text, f"set {given.token_env}")
