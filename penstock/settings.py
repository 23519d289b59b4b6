"""The one reader of the environment and of `penstock.toml`.

Order of precedence: arguments given in code, the environment, `penstock.toml`, the defaults here.
docs/configuration.md lists every field; a test compares the two.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Mapping, Sequence
from functools import cached_property
from operator import attrgetter
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TextIO, get_args

from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    IPvAnyNetwork,
    ModelWrapValidatorHandler,
    SecretStr,
    StringConstraints,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from penstock import address, consistency, mistake
from penstock.address import without_credentials
from penstock.errors import ConfigurationError, UnknownRoute
from penstock.hook import Hook
from penstock.mistake import Mistake, Place, details, wrong
from penstock.origin import Origin, unreadable
from penstock.webhook import Secrets, TenantWebhook

DEFAULT_ROUTE = "default"

SECRETS = ("PENSTOCK_REDIS_URL", "PENSTOCK_TOKEN", "DEEPINFRA_TOKEN", "PENSTOCK_WEBHOOK_SECRET")
"""Variables that may be given as `<name>_FILE` instead: the path of a file that holds the value, as
container engines hand out secrets."""

Name = Annotated[str, StringConstraints(pattern=mistake.NAME)]
"""A route's or tenant's name: it becomes part of Redis keys and of a Celery queue's name."""

Count = Annotated[int, Field(ge=1, le=1_000_000_000)]
"""The largest keeps sums of many exact in the scripts, whose numbers are floats."""
Budget = Annotated[float, Field(gt=0, allow_inf_nan=False, description="USD")]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]

SCHEDULE = (5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400)
"""Seconds between two tries of a delivery: the example schedule of Standard Webhooks."""

_SECRETS: TypeAdapter[tuple[SecretStr, ...]] = TypeAdapter(Secrets)

TenantName = Annotated[str, StringConstraints(pattern=mistake.TENANT_NAME)]
"""A tenant's name, or `*` for all that have no table."""

BaseUrl = Annotated[str, StringConstraints(pattern=mistake.URL)]
"""Where an upstream is, up to what comes before /chat/completions."""


PageOrigin = Annotated[str, StringConstraints(pattern=mistake.ORIGIN)]
"""A web page's origin as browsers send it, or `*` for any."""


def _is_reachable(url: str) -> str:
    if not re.match(mistake.URL, url):
        raise wrong("is no URL", "write where others reach the gateway: https://jobs.example.com")
    return url


def _fits_a_header(token: SecretStr | None) -> SecretStr | None:
    """A token goes into an HTTP header: visible ASCII only, see RFC 9110 5.5."""
    if token and not all("!" <= letter <= "~" for letter in token.get_secret_value()):
        raise wrong("is no token", "give visible ASCII characters, without spaces or line ends")
    return token


Token = Annotated[SecretStr, AfterValidator(_fits_a_header)]
Price = Annotated[float, Field(ge=0, description="USD per 1M tokens")]


class Frozen(BaseModel):
    """Settings never change after they are read, and unknown names are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Timeouts(Frozen):
    """How long one attempt may wait, in seconds."""

    connect: Seconds = 5
    first_token: Seconds = 120
    between_tokens: Seconds = 60
    total: Seconds = 900


class Prices(Frozen):
    """USD per 1M tokens, used where the upstream does not say what a completion cost."""

    input: Price
    output: Price
    cached_input: Price | None = None

    @property
    def cached(self) -> float:
        """Of prompt tokens that were cached: the full price where no other is known."""
        return self.input if self.cached_input is None else self.cached_input


PRICED_MODEL = "nvidia/NVIDIA-Nemotron-3-Super-120B-A12B"
"""The default model."""

DEFAULT_PRICES = Prices(input=0.10, output=0.50, cached_input=0.04)
"""Its prices at DeepInfra."""


Tier = Literal["flex", "default", "priority"]
"""What an upstream may be asked for as `service_tier`, cheapest first."""

TIER_FACTORS: dict[str, float] = {"flex": 0.8, "default": 1.0, "priority": 1.5}
"""What they cost beside the default, by DeepInfra's price list; the tier that the answer names is
the one billed."""


def _at_most(limit: str, value: int, info: ValidationInfo) -> int:
    """The value, which must not be more than this field, if that is set."""
    most = info.data.get(limit)
    if most is not None and value > most:
        raise wrong(f"is more than {limit}, which is {most}", "give a smaller number")
    return value


class RouteLimits(Frozen):
    """What a route takes and costs, and where its jobs go when it cannot take them."""

    token_env: str | None = Field(None, description="environment variable that holds the token")
    concurrency: Count = 200
    concurrency_min: Count = 1
    requests_per_minute: Count | None = None
    tokens_per_minute: Count | None = None
    burst: Count = 10
    fallback: tuple[Name, ...] = Field((), description="routes that take its jobs, in order")
    service_tiers: tuple[Tier, ...] = Field((), description="tiers it may ask for")
    timeouts: Timeouts = Timeouts()
    prices: Prices = DEFAULT_PRICES

    @field_validator("concurrency_min")
    @classmethod
    def _is_no_more_than_concurrency(cls, least: int, info: ValidationInfo) -> int:
        return _at_most("concurrency", least, info)

    @field_validator("burst")
    @classmethod
    def _is_no_more_than_a_minutes(cls, burst: int, info: ValidationInfo) -> int:
        return _at_most("requests_per_minute", burst, info)

    @field_validator("service_tiers")
    @classmethod
    def _climbs(cls, tiers: tuple[Tier, ...]) -> tuple[Tier, ...]:
        order = get_args(Tier)
        if tiers != tuple(tier for tier in order if tier in tiers):
            raise wrong("must go from cheap to dear", f"keep to the order {', '.join(order)}")
        return tiers


class Route(RouteLimits):
    """One upstream model: where it is, what it is called, what it takes and costs."""

    url: BaseUrl
    model: str
    token: Token | None = None


class Tenant(Frozen):
    """What one tenant may use, over all routes, and its share where tenants compete."""

    weight: Annotated[float, Field(ge=0.001, le=1000)] = 1
    concurrency: Count | None = None
    requests_per_minute: Count | None = None
    tokens_per_minute: Count | None = None
    burst: Count = 10
    budget_day: Budget | None = None
    budget_month: Budget | None = None
    over_budget: Literal["hold", "reject"] = "hold"
    max_waiting: Count | None = None
    webhook: TenantWebhook | None = None

    @field_validator("burst")
    @classmethod
    def _is_no_more_than_a_minutes(cls, burst: int, info: ValidationInfo) -> int:
        return _at_most("requests_per_minute", burst, info)


class RouteOverrides(RouteLimits):
    """A `[routes.NAME]` table: what is left out comes from the top-level settings."""

    url: BaseUrl | None = None
    model: str | None = None


ALIASES = {
    "PENSTOCK_TOKEN": "DEEPINFRA_TOKEN",
    "PENSTOCK_OTLP_ENDPOINT": "OTEL_EXPORTER_OTLP_ENDPOINT",
}
"""Variables that others know by another name, which counts where ours is not set."""


def _also(variable: str) -> AliasChoices:
    return AliasChoices(variable, ALIASES[variable])


class Settings(BaseSettings):
    """Everything that can be configured. Build it with `load()` to get readable errors."""

    model_config = SettingsConfigDict(
        env_prefix="PENSTOCK_", frozen=True, extra="forbid", populate_by_name=True
    )

    redis_url: str | None = Field(
        None, repr=False, description="default: the embedded server, if it runs"
    )
    upstream_url: BaseUrl = "https://api.deepinfra.com/v1/openai"
    token: Token | None = Field(None, validation_alias=_also("PENSTOCK_TOKEN"), repr=False)
    model: str = PRICED_MODEL
    config: Path = Path("penstock.toml")
    state_dir: Path = Path(".penstock")
    log: Literal["console", "json"] = "console"
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    tracing: bool = False
    trace_sample: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = 1
    trace_upstream: bool = Field(False, description="whether upstreams are told of the trace")
    otlp_endpoint: BaseUrl = Field(
        "http://localhost:4318",
        validation_alias=_also("PENSTOCK_OTLP_ENDPOINT"),
        repr=False,
    )

    routes: dict[Name, RouteOverrides] = Field(default_factory=dict)
    tenants: dict[TenantName, Tenant] = Field(
        default_factory=dict, description="limits by tenant; `*` for all others"
    )
    hooks: dict[Name, Hook] = Field(default_factory=dict, description="webhooks in, by name")

    public_url: Annotated[str, AfterValidator(_is_reachable)] | None = Field(
        None, description="where the gateway is for others"
    )
    webhook_secret: Annotated[Secrets, NoDecode] = Field((), repr=False)
    webhook_schedule: Annotated[tuple[Seconds, ...], NoDecode] = Field(
        SCHEDULE, description="seconds after each failed try of a delivery; the first is at once"
    )
    webhook_timeout: Seconds = 15
    webhook_concurrency: Annotated[int, Field(ge=0)] = 20
    webhook_http: bool = False
    webhook_allow: Annotated[tuple[IPvAnyNetwork, ...], NoDecode] = ()

    max_attempts: Annotated[int, Field(ge=1, le=100)] = 5
    result_ttl: Annotated[int, Field(ge=1, le=3_660 * 86_400)] = 86_400

    concurrency: Count = 500
    flush_interval: Annotated[
        float, Field(ge=0, allow_inf_nan=False, description="seconds; 0 sends each delta")
    ] = 0.05
    drain_timeout: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 25
    metrics_host: Annotated[str, Field(min_length=1, max_length=253)] = "127.0.0.1"
    metrics_port: Annotated[int, Field(ge=0, le=65_535)] | None = None
    watchdog_timeout: Seconds = 30
    follow_applied: bool = Field(
        True, description="whether a running worker takes up what `penstock routes apply` publishes"
    )
    worker_routes: Annotated[tuple[Name, ...], NoDecode] | None = Field(
        None, description="routes a worker serves; all of them where left out"
    )

    gateway_host: Annotated[str, Field(min_length=1, max_length=253)] = "127.0.0.1"
    gateway_port: Annotated[int, Field(ge=0, le=65_535)] = 8000
    gateway_timeout: Seconds = 30
    gateway_requests_per_minute: Count = 3000
    gateway_origins: Annotated[tuple[PageOrigin, ...], NoDecode] | None = Field(
        None, description="web pages that may ask; none where left out"
    )

    @field_validator("redis_url")
    @classmethod
    def _is_an_address(cls, url: str | None) -> str | None:
        if url:
            address.read(url)
        return url

    @field_validator(
        "worker_routes", "gateway_origins", "webhook_schedule", "webhook_allow", mode="before"
    )
    @classmethod
    def _split(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        return tuple(filter(None, (name.strip() for name in value.split(","))))

    @model_validator(mode="wrap")
    @classmethod
    def _fits_together(cls, given: Any, read: ModelWrapValidatorHandler[Self]) -> Self:
        """Tell what is wrong between tables together with what is wrong in them."""
        found = list(consistency.mistakes(given, DEFAULT_ROUTE, PRICED_MODEL))
        try:
            settings = read(given)
        except ValidationError as error:
            found += details(error)
        if found:
            raise ValidationError.from_exception_data("settings", found)
        return settings

    @model_validator(mode="after")
    def _names_a_readable_config(self) -> Settings:
        if "config" in self.model_fields_set and not self.config.is_file():
            text = f"PENSTOCK_CONFIG names {self.config}, which is not a file"
            raise wrong(text, "create it, or unset the variable")
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read arguments, then the environment, then `penstock.toml`."""
        toml = TomlConfigSettingsSource(settings_cls, _config_path())
        return init_settings, environment(settings_cls), toml

    @classmethod
    def load(cls, **arguments: Any) -> Settings:
        """Read the settings; raise ConfigurationError that says of each mistake where it is."""
        try:
            return cls(**arguments)
        except ValidationError as error:
            origin = Origin(arguments, environment(cls)(), _variable, _config_path())
            raise refusal(origin.mistakes(error, cls)) from None
        except SettingsError as error:  # a variable that must be JSON
            raise refusal([_no_json(error)]) from None
        except (ValueError, OSError) as error:  # the file is not TOML, or not ours to read
            raise refusal([unreadable(_config_path(), error)]) from None

    def mistake(self, place: Place, text: str, remedy: str) -> Mistake:
        """One that only shows when these settings are put to use, with where it stands."""
        kind = type(self)
        origin = Origin({}, environment(kind)(), _variable, _config_path())
        return origin.mistake(place, text, remedy, kind)

    @property
    def socket_path(self) -> Path:
        """The embedded server's Unix socket."""
        return self.state_dir.absolute() / "redis.sock"

    @property
    def server_url(self) -> str:
        """The Redis URL in use: the given one, the embedded server's, or the local default."""
        if self.redis_url:
            return self.redis_url
        if _listens(self.socket_path):
            return f"unix://{self.socket_path}"
        return "redis://127.0.0.1:6379/0"

    @property
    def safe_url(self) -> str:
        """The server's URL without user and password, for logs."""
        return without_credentials(self.server_url)

    @cached_property
    def served_routes(self) -> dict[str, Route]:
        """The routes a worker with these settings serves; raises UnknownRoute."""
        return {name: self.route(name) for name in self.worker_routes or self.resolved_routes}

    @cached_property
    def resolved_routes(self) -> dict[str, Route]:
        """Every route by name; `default` is always there."""
        overrides = {DEFAULT_ROUTE: RouteOverrides(), **self.routes}
        return {name: self._route(given) for name, given in overrides.items()}

    def route(self, name: str) -> Route:
        """The route of this name; raises UnknownRoute."""
        try:
            return self.resolved_routes[name]
        except KeyError:
            known = ", ".join(sorted(self.resolved_routes))
            raise UnknownRoute(
                f"there is no route {name!r}; known routes: {known}. "
                f"Add a [routes.{name}] table to {self.config} or choose one of these"
            ) from None

    def webhook_secrets(self, secret_env: str | None) -> tuple[SecretStr, ...]:
        """The secrets that a variable holds, `webhook_secret` where none is named.

        Raises ConfigurationError where the variable is not set, or holds no secrets.
        """
        if secret_env is None:
            return self.webhook_secret
        try:
            if secrets := _SECRETS.validate_python(_secret(secret_env) or ""):
                return secrets
        except ValidationError:
            raise ConfigurationError(
                f"{secret_env} holds no webhook secret: whsec_ and 24 to 64 bytes in base64"
            ) from None
        raise ConfigurationError(f"{secret_env} is not set; it holds a webhook's secret")

    def applying(
        self, routes: Mapping[str, RouteOverrides], tenants: Mapping[str, Tenant]
    ) -> Settings:
        """These settings with other routes and tenants."""
        changed = self.model_copy(update={"routes": dict(routes), "tenants": dict(tenants)})
        for cached in ("served_routes", "resolved_routes"):
            changed.__dict__.pop(cached, None)
        return changed

    def hook_secrets(self, hook: str, secret_env: str) -> tuple[str, ...]:
        """The secrets of a webhook in; raises ConfigurationError where there is none."""
        if secrets := tuple((_secret(secret_env) or "").split()):
            return secrets
        raise ConfigurationError(f"{secret_env} is not set; it holds the secret of [hooks.{hook}]")

    def _route(self, given: RouteOverrides) -> Route:
        token = self.token
        if given.token_env:
            secret = _secret(given.token_env)
            token = SecretStr(secret) if secret else None
        try:
            return Route(
                url=(given.url or self.upstream_url).rstrip("/"),
                model=given.model or self.model,
                token=token,
                **given.model_dump(exclude={"url", "model"}, exclude_unset=True),
            )
        except ValidationError:
            raise ConfigurationError(
                f"{given.token_env} holds no token: visible ASCII characters, without spaces"
            ) from None


def environment(settings_cls: type[BaseSettings] = Settings) -> EnvSettingsSource:
    """The environment, with what the files of SECRETS hold; raises ConfigurationError."""
    source = EnvSettingsSource(settings_cls)
    secrets = {name.lower(): secret for name in SECRETS if (secret := _secret(name)) is not None}
    source.env_vars = {**source.env_vars, **secrets}
    return source


def _secret(name: str) -> str | None:
    """A variable's value, else that of the file which <name>_FILE names; an empty file is none.

    Raises ConfigurationError, which shows no path: somebody may have put the secret itself there.
    """
    path = os.environ.get(f"{name}_FILE")
    if name in os.environ or not path:
        return os.environ.get(name)
    try:
        return Path(path).read_text().strip() or None
    except (OSError, ValueError) as error:
        text = f"names a file that cannot be read: {getattr(error, 'strerror', 'it is no text')}"
        remedy = "correct the path, or let this user read it"
        raise refusal([Mistake(f"{name}_FILE", "", text, remedy)]) from None


def _config_path() -> Path:
    return Path(os.environ.get("PENSTOCK_CONFIG", "penstock.toml"))


def _listens(path: Path) -> bool:
    """Whether somebody answers there: a killed server leaves its socket behind."""
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
        return True


def refusal(mistakes: Sequence[Mistake]) -> ConfigurationError:
    """The error that tells these mistakes, one line each, in the order of the file's lines."""
    told = sorted(mistakes, key=attrgetter("line"))
    return ConfigurationError("\n".join(map(str, told)), told)


def _variable(name: str) -> str:
    """The variable that gives this setting; of those that have two, the one that goes before."""
    variable = name if name in ALIASES else f"PENSTOCK_{name.upper()}"
    names = (variable, ALIASES[variable]) if variable in ALIASES else (variable,)
    ways = (way for name in names for way in (name, f"{name}_FILE"))
    return next((way for way in ways if way in os.environ), names[-1])


def _no_json(error: SettingsError) -> Mistake:
    """pydantic-settings names the field in quotes, and nothing of the value."""
    field = re.search(r'field "(\w+)"', str(error))
    variable = _variable(field[1]) if field else "the environment"
    return Mistake(variable, "", "is not JSON", "write what penstock.toml would say as JSON")


def wants_colours(stream: TextIO) -> bool:
    """Whether a person looks at it, and has not refused; see https://no-color.org."""
    dumb = os.environ.get("TERM") == "dumb"
    return stream.isatty() and not os.environ.get("NO_COLOR") and not dumb


def child_environment(**extra: str) -> dict[str, str]:
    """This process's environment with `extra` on top: what a child process is started with."""
    return {**os.environ, **extra}
