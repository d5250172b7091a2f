"""Bindings at the Kubernetes API server: what an extender with a bind verb has to do itself."""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlsplit

from .objects import INDEX, Pod

_ANSWER = 65536


class BindingFailed(Exception):  # noqa: N818
    """The API server did not take the binding; says why."""


@dataclass(frozen=True, slots=True)
class ApiServer:
    """Posts ``v1.Binding`` objects; blocking, so call it from a thread.

    Attributes:
        url: of the API server, ``https://...`` (``http://`` for a local proxy).
        token: file with the bearer token, empty: none. Read for every binding, since mounted
            service account tokens are renewed in place.
        ca: PEM file of the CA, empty: the system's.
        timeout: of every network operation, s.
    """

    url: str
    token: str = ""
    ca: str = ""
    timeout: float = 2.0

    def bind(self, pod: Pod, node: str, devices: Sequence[int]) -> None:
        """Bind the pod; the devices it holds go into its annotation ``gpu-index``.

        Raises:
            BindingFailed: refused, unreachable or too late; the binding may then exist or not,
                which the cluster feed tells.
        """
        notes = {INDEX: "-".join(map(str, devices))} if devices else {}
        body = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": pod.name, "namespace": pod.namespace, "uid": pod.uid}
            | ({"annotations": notes} if notes else {}),
            "target": {"apiVersion": "v1", "kind": "Node", "name": node},
        }
        path = f"/api/v1/namespaces/{quote(pod.namespace, safe='')}/pods/{quote(pod.name, safe='')}"
        try:
            status, answer = self._post(f"{path}/binding", json.dumps(body).encode())
        except (OSError, http.client.HTTPException) as error:
            raise BindingFailed(
                f"API server {self.url}: {error or type(error).__name__}"
            ) from error
        if status not in (200, 201):
            text = answer.decode("utf-8", "replace")[:200]
            raise BindingFailed(f"API server {self.url} answered {status}: {text}")

    def _post(self, path: str, body: bytes) -> tuple[int, bytes]:
        headers = {"Content-Type": "application/json"}
        if self.token:
            headers["Authorization"] = f"Bearer {Path(self.token).read_text('utf-8').strip()}"
        connection = self._connect()
        try:
            connection.request("POST", path, body, headers)
            response = connection.getresponse()
            return response.status, response.read(_ANSWER)
        finally:
            connection.close()

    def _connect(self) -> http.client.HTTPConnection:
        parts = urlsplit(self.url)
        host, port = parts.hostname or "", parts.port
        if parts.scheme != "https":
            return http.client.HTTPConnection(host, port, timeout=self.timeout)
        context = ssl.create_default_context(cafile=self.ca or None)
        return http.client.HTTPSConnection(host, port, timeout=self.timeout, context=context)
