"""Draws the dashboards of ops/grafana from what a Prometheus has of a real run, for the docs.

    python -m tests.pictures http://127.0.0.1:9090 docs/pictures

These are no pictures of Grafana: titles, places and queries are the dashboards', and the values are
Prometheus's; Vega-Lite draws them. It needs vl-convert-python, which nothing else does.
"""

from __future__ import annotations

import json
import math
import re
import sys
from pathlib import Path
from typing import Any

import httpx

BOARDS = Path(__file__).parents[1] / "ops" / "grafana" / "dashboards"
POINTS = 40
"""Of each line, about."""

WIDTH, HEIGHT = 300, 120
COLUMNS = 3
UNITS = {"s": "seconds", "percentunit": "share", "currencyUSD": "USD", "bytes": "bytes"}


class Drawing:
    """What one Prometheus knows of one run."""

    def __init__(self, url: str) -> None:
        self._http = httpx.Client(base_url=f"{url}/api/v1", trust_env=False, timeout=30)
        ups = self._ask("query", query="up[1h]")
        times = [time for series in ups for time, _ in series["values"]]
        self._begin, self._end = min(times), max(times)

    def board(self, board: dict[str, Any]) -> dict[str, Any]:
        """The Vega-Lite specification of a dashboard."""
        panels = sorted(board["panels"], key=lambda p: (p["gridPos"]["y"], p["gridPos"]["x"]))
        return {
            "$schema": "https://vega.github.io/schema/vega-lite/v5.json",
            "title": {"text": board["title"], "anchor": "start", "fontSize": 18},
            "columns": COLUMNS,
            "concat": [self._panel(panel) for panel in panels],
            "resolve": {"scale": {"color": "independent"}},
            "config": {
                "legend": {"orient": "bottom", "title": None, "columns": 2, "labelLimit": 150}
            },
        }

    def _panel(self, panel: dict[str, Any]) -> dict[str, Any]:
        rows = [row for target in panel["targets"] for row in self._rows(target)]
        unit = UNITS.get(panel["fieldConfig"]["defaults"].get("unit", ""), "")
        name = {"field": "name", "type": "nominal"}
        value = {"field": "value", "type": "quantitative", "title": unit}
        drawn: dict[str, Any] = {
            "title": {"text": panel["title"], "fontSize": 12, "anchor": "start"},
            "width": WIDTH, "height": HEIGHT, "data": {"values": rows},
        }  # fmt: skip
        if not rows:
            said = {"type": "text", "text": "none in this run", "color": "grey"}
            return {**drawn, "data": {"values": [{}]}, "mark": said}
        if panel["type"] == "bargauge":
            last = max((row["time"] for row in rows), default=0)
            drawn["data"]["values"] = [row for row in rows if row["time"] == last]
            y = {**name, "title": None, "sort": None}
            return {**drawn, "mark": "bar", "encoding": {"y": y, "x": value}}
        time = {"field": "time", "type": "quantitative", "title": "seconds of the run"}
        return {**drawn, "mark": "line", "encoding": {"x": time, "y": value, "color": name}}

    def _rows(self, target: dict[str, Any]) -> list[dict[str, Any]]:
        step = max(1, math.ceil((self._end - self._begin) / POINTS))
        query = re.sub(r"\$\w+", ".*", target["expr"])
        asked = {"query": query, "start": self._begin, "end": self._end, "step": step}
        return [
            {"time": round(time - self._begin), "value": round(float(value), 6),
             "name": _legend(target["legendFormat"], series["metric"])}
            for series in self._ask("query_range", **asked)
            for time, value in series["values"]
            if math.isfinite(float(value))
        ]  # fmt: skip

    def _ask(self, what: str, **parameters: Any) -> list[dict[str, Any]]:
        answer = self._http.get(what, params=parameters).json()
        assert answer["status"] == "success", answer
        found: list[dict[str, Any]] = answer["data"]["result"]
        return found


def _legend(template: str, labels: dict[str, str]) -> str:
    return re.sub(r"{{\s*(\w+)\s*}}", lambda match: labels.get(match[1], ""), template)


if __name__ == "__main__":
    import vl_convert

    drawing = Drawing(sys.argv[1])
    for path in sorted(BOARDS.glob("*.json")):
        svg = vl_convert.vegalite_to_svg(drawing.board(json.loads(path.read_text())))
        (Path(sys.argv[2]) / f"dashboard-{path.stem}.svg").write_text(svg)
