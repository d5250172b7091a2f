"""A narrow way to a Prometheus server: committed queries, checked variables, a time limit.

The browser never talks to Prometheus and never sends a query; it names a panel and picks values of
variables. Calls block, so the page runs them in threads of their own.
HTTP API: https://prometheus.io/docs/prometheus/latest/querying/api/
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode, urlsplit
from urllib.request import Request, urlopen

from ..files import UserError

LARGEST = 16 * 1024 * 1024
"""Bytes of the largest answer read."""

VALUE = re.compile(r"[\w.:/@\-\[\] ]{1,200}")
"""What a variable's value may look like."""


class PrometheusError(Exception):
    """The server did not answer, or refused the query; in words."""


class Prometheus:
    """One server by its address, for example ``http://127.0.0.1:9090``."""

    def __init__(self, url: str, *, timeout: float = 5.0):
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UserError(
                f"page.prometheus is {url!r}; write an address such as http://127.0.0.1:9090"
            )
        self.url, self.timeout = url.rstrip("/"), timeout

    def over(self, query: str, *, start: float, end: float, step: float) -> list[dict[str, Any]]:
        """Series of a range query: ``{"metric": labels, "values": [[time, "value"], ...]}``.

        Raises:
            PrometheusError: see there.
        """
        arguments = {"query": query, "start": start, "end": end, "step": step}
        return self._ask("query_range", arguments)["result"]

    def at(self, query: str, *, time: float) -> list[dict[str, Any]]:
        """Series of an instant query: ``{"metric": labels, "value": [time, "value"]}``."""
        return self._ask("query", {"query": query, "time": time})["result"]

    def values(self, label: str, selector: str, *, start: float, end: float) -> list[str]:
        """Values that a label takes among the series that match, sorted."""
        arguments = {"match[]": selector, "start": start, "end": end}
        return sorted(self._ask(f"label/{label}/values", arguments, method="GET"))

    def _ask(self, path: str, arguments: Mapping[str, Any], *, method: str = "POST") -> Any:
        target, body = f"{self.url}/api/v1/{path}", urlencode(arguments)
        request = (
            Request(target, data=body.encode(), method=method)  # noqa: S310 (scheme is checked)
            if method == "POST"
            else Request(f"{target}?{body}", method=method)  # noqa: S310
        )
        try:
            with urlopen(request, timeout=self.timeout) as answer:  # noqa: S310
                payload = answer.read(LARGEST + 1)
        except HTTPError as error:
            raise PrometheusError(_reason(error)) from error
        except (URLError, OSError, HTTPException) as error:
            reason = getattr(error, "reason", None) or error
            raise PrometheusError(f"{self.url} does not answer: {reason}") from error
        if len(payload) > LARGEST:
            raise PrometheusError(f"the answer is larger than {LARGEST} bytes; ask for less time")
        try:
            content = json.loads(payload)
        except ValueError as error:
            raise PrometheusError(f"{self.url} answered with something that is no JSON") from error
        if not isinstance(content, dict) or content.get("status") != "success":
            raise PrometheusError(f"{self.url} answered: {str(content)[:200]}")
        return content["data"]


def _reason(error: HTTPError) -> str:
    """What the server says about a refused query, or its status if it says nothing."""
    text = error.read(65536).decode("utf-8", "replace")
    try:
        return f"the query was refused: {json.loads(text)['error']}"
    except (ValueError, KeyError, TypeError):
        return f"the server answered {error.code}: {text[:200]}"


def one_of(values: Sequence[str]) -> str:
    """A regular expression, ready for a PromQL string, that matches exactly these values.

    Raises:
        ValueError: a value holds characters that no job, instance or domain has.
    """
    for value in values:
        if not VALUE.fullmatch(value):
            raise ValueError(f"{value!r} cannot be the value of a variable")
    quoted = [re.sub(r"([.+\-\[\]])", r"\\\\\1", value) for value in values]
    return "|".join(value.replace(r"\\-", "-") for value in quoted)


def substituted(query: str, variables: Mapping[str, str], *, span: float, step: float) -> str:
    """The query with ``$name``, ``$__range``, ``$__interval`` and ``$__rate_interval`` filled in.

    ``$__rate_interval`` as in Grafana: four scrapes of 15 s, or a step and a scrape if longer.

    Raises:
        KeyError: the query names a variable that the dashboard does not have.
    """
    known = {
        **variables,
        "__range": f"{round(span)}s",
        "__interval": f"{max(1, round(step))}s",
        "__rate_interval": f"{max(60, round(step + 15))}s",
    }
    return re.sub(r"\$(?:\{(\w+)\}|(\w+))", lambda m: known[m.group(1) or m.group(2)], query)
