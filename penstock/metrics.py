"""Where a worker's or a gateway's Prometheus metrics are served."""

from __future__ import annotations

from prometheus_client import start_http_server

from penstock.errors import ConfigurationError


def serve(host: str, port: int) -> None:
    """Serve this process's metrics from now on; raises ConfigurationError."""
    try:
        start_http_server(port, host)
    except OSError as error:
        raise ConfigurationError(
            f"cannot serve metrics on {host} port {port}: {error.strerror}. Choose others with "
            "PENSTOCK_METRICS_HOST and --metrics-port"
        ) from None
