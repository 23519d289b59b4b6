"""Checks of the settings: which are wrong, where they come from, which name nothing."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator
from importlib.util import find_spec
from pathlib import Path

from ops.doctor.finding import Finding
from penstock.consistency import no_route
from penstock.errors import ConfigurationError, PenstockError
from penstock.mistake import Mistake
from penstock.settings import SECRETS, Settings, child_environment

PREFIX = "PENSTOCK_"


def read_settings() -> tuple[Settings | None, list[Finding]]:
    """The settings, None if they are wrong, and what there is to say about them."""
    try:
        settings = Settings.load()
        _ = settings.served_routes
    except ConfigurationError as error:
        mistakes = error.mistakes or (Mistake("", "", str(error)),)
        return None, [_finding(mistake) for mistake in mistakes]
    except PenstockError as error:
        return None, [Finding("settings", "problem", str(error), f"correct {_config_path()}")]
    found = [
        *_strangers(),
        *_missing_tokens(settings),
        *_missing_secrets(settings),
        *_wrong_templates(settings),
    ]
    if all(finding.verdict != "problem" for finding in found):
        source = f"from {settings.config}" if settings.config.is_file() else "without penstock.toml"
        found.insert(0, Finding("settings", "ok", f"valid, {source}"))
    return settings, found


def unknown_routes(settings: Settings, published: Collection[str]) -> Iterator[Finding]:
    """Hooks whose jobs would be refused: neither these settings nor any worker know their route."""
    known = {*settings.resolved_routes, *published}
    for name, hook in settings.hooks.items():
        if hook.route not in known:
            wrong = no_route(hook.route, known)
            yield _finding(settings.mistake(("hooks", name, "route"), *wrong))


def _wrong_templates(settings: Settings) -> Iterator[Finding]:
    """A gateway does not start with them; without Jinja2 this is no place for one."""
    if settings.hooks and find_spec("jinja2"):
        from producers.hooks.hook import mistakes

        yield from map(_finding, mistakes(settings))


def _finding(mistake: Mistake) -> Finding:
    advice = mistake.remedy or f"correct {mistake.where or 'it'}"
    return Finding("settings", "problem", mistake.finding, advice)


def _config_path() -> Path:
    return Path(child_environment().get("PENSTOCK_CONFIG", "penstock.toml"))


def _strangers() -> Iterator[Finding]:
    """Variables that look like settings and are none: typing errors go unnoticed otherwise."""
    known = [PREFIX + name.upper() for name in Settings.model_fields]
    known += [f"{name}_FILE" for name in SECRETS]
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


def _missing_secrets(settings: Settings) -> Iterator[Finding]:
    """Of webhooks: a worker cannot sign without, and a gateway does not start."""
    named = {f"tenants.{name}.webhook": t.webhook.secret_env
             for name, t in settings.tenants.items() if t.webhook}  # fmt: skip
    named |= {f"hooks.{name}": hook.secret_env for name, hook in settings.hooks.items()}
    named |= {f"hooks.{name}.answer.webhook": hook.answer.webhook.secret_env
              for name, hook in settings.hooks.items() if hook.answer}  # fmt: skip
    given = child_environment()
    for place, variable in named.items():
        if variable and not (given.get(variable) or given.get(f"{variable}_FILE")):
            text = f"{place}.secret_env names {variable}, which is not set"
            yield Finding("settings", "problem", text, f"set {variable}")
