"""The replaying scheduler's side of the extender: HTTP calls, comparison, fail-open.

``ignorable: true`` in a scheduler's configuration means: without the extender, go on alone. Then
the least allocated node that fits is taken, as kube-scheduler's default would; when the extender is
back it is told the state of the cluster (level-triggered), and asked again.
"""

from __future__ import annotations

import http.client
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlsplit

import numpy as np
import orjson

from ...simulators.interface import Doubles
from ..files import UserError
from .cluster import Cluster
from .extender import Extender
from .objects import INDEX, RUN_TIME, TIME, Pod
from .view import Viewer


class AwayError(Exception):
    """The extender did not answer, or not in time."""


class ExtenderApi:
    """HTTP client of one domain's extender, on one kept connection.

    Args:
        url: of the daemon.
        domain: whose extender.
        token: bearer token, empty: none.
        timeout: of every call (``httpTimeout`` of the scheduler's configuration), s.

    Raises:
        UserError: not an http URL.
    """

    def __init__(self, url: str, domain: str = "cloud", *, token: str = "", timeout: float = 5.0):
        parts = urlsplit(url)
        if parts.scheme != "http" or not parts.hostname:
            raise UserError(f"--url {url!r}: accepted: http://HOST:PORT")
        self._host, self._port, self._timeout = parts.hostname, parts.port or 80, timeout
        self._domain = domain
        self._headers = {"Content-Type": "application/json"}
        if token:
            self._headers["Authorization"] = f"Bearer {token}"
        self._connection: http.client.HTTPConnection | None = None

    def ask(self, verb: str, body: object) -> Any:
        """A verb of the extender.

        Raises:
            AwayError: no answer in time, or a status that tells to come back later (503, 429).
            UserError: refused for good.
        """
        return self._call("POST", f"/v1/extender/{self._domain}/{verb}", body)

    def feed_nodes(self, body: object) -> None:
        """``PUT`` a ``v1.NodeList``."""
        self._call("PUT", f"/v1/cluster/{self._domain}/nodes", body)

    def feed_pods(self, body: object) -> None:
        """``POST`` a ``v1.Pod`` or ``v1.PodList``."""
        self._call("POST", f"/v1/cluster/{self._domain}/pods", body)

    def forget(self, uid: str, now: float) -> None:
        """``DELETE`` a pod."""
        path = f"/v1/cluster/{self._domain}/pods/{quote(uid, safe='')}?time={now!r}"
        self._call("DELETE", path, None)

    def close(self) -> None:
        """Drop the connection."""
        if self._connection is not None:
            self._connection.close()
        self._connection = None

    def _call(self, method: str, path: str, body: object) -> Any:
        payload = None if body is None else orjson.dumps(body)
        try:
            if self._connection is None:
                self._connection = http.client.HTTPConnection(
                    self._host, self._port, timeout=self._timeout
                )
            self._connection.request(method, path, payload, self._headers)
            response = self._connection.getresponse()
            answer = response.read()
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise AwayError(
                f"{self._host}:{self._port}: {error or type(error).__name__}"
            ) from error
        if response.status in (429, 503):
            raise AwayError(answer.decode("utf-8", "replace")[:300])
        if response.status != 200:
            text = answer.decode("utf-8", "replace")[:300]
            raise UserError(f"{method} {path} was answered {response.status}: {text}")
        return orjson.loads(answer)


@dataclass(slots=True)
class Comparison:
    """How the calls over HTTP compare with the same extender in process.

    Attributes:
        asked: pods that were filtered over HTTP.
        compared: of these, pods that were prioritised both ways.
        differences: what differed, in words (the first ones).
        different: how many answers differed.
        away: pods that were placed without the extender.
        seconds: of filter and prioritise over HTTP, pod by pod.
        outcomes: of the decisions (``ok``, ``degraded``, ``fallback``), with counts.
    """

    asked: int = 0
    compared: int = 0
    differences: list[str] = field(default_factory=list[str])
    different: int = 0
    away: int = 0
    seconds: list[float] = field(default_factory=list[float])
    outcomes: dict[str, int] = field(default_factory=dict[str, int])

    def note(self, text: str) -> None:
        """Count a difference."""
        self.different += 1
        if len(self.differences) < 10:
            self.differences.append(text)

    def quantile(self, share: float) -> float:
        """Latency of filter and prioritise together, s; NaN without calls."""
        return float(np.quantile(np.array(self.seconds), share)) if self.seconds else float("nan")


class ExtenderPlacer:
    """Places through HTTP and checks every answer against the extender in process.

    Args:
        api: the daemon's.
        local: the same in process; its cluster is the scheduler's own books.
        nodes: ``v1.NodeList`` of the cluster.
    """

    def __init__(self, api: ExtenderApi, local: Extender, viewer: Viewer, nodes: Mapping[str, Any]):
        self._api, self._local, self._viewer, self._nodes = api, local, viewer, nodes
        self._names = [node["metadata"]["name"] for node in nodes["items"]]
        self._running: dict[str, dict[str, Any]] = {}
        self._fresh = False
        self.result = Comparison()

    @property
    def _cluster(self) -> Cluster:
        return self._local.cluster

    def place(self, value: dict[str, Any], pod: Pod, now: float) -> str | None:
        try:
            name = self._ask(value, pod, now)
        except AwayError:
            self._fresh = False
            name = self._alone(pod, now)
        if name is not None:
            self._running[pod.uid] = {**value, "spec": {**value["spec"], "nodeName": name}}
        return name

    def found(self, value: dict[str, Any], pod: Pod) -> None:
        self._running[pod.uid] = value

    def leave(self, pod: Pod, now: float) -> None:
        self._running.pop(pod.uid, None)
        if not self._fresh:
            return
        try:
            self._api.forget(pod.uid, now)
        except AwayError:
            self._fresh = False

    def _ask(self, value: dict[str, Any], pod: Pod, now: float) -> str | None:
        self._refresh(now)
        arguments = {"Pod": value, "Nodes": None, "NodeNames": self._names}
        began = time.perf_counter()
        filtered = self._api.ask("filter", arguments)
        spent = time.perf_counter() - began
        mine = self._local.filter(arguments)
        self.result.asked += 1
        if filtered != mine:
            self.result.note(f"{pod.uid}: filter {_brief(filtered)}, in process {_brief(mine)}")
        names = filtered["NodeNames"]
        if not names:
            return None
        arguments = {**arguments, "NodeNames": names}
        began = time.perf_counter()
        scores = self._api.ask("prioritize", arguments)
        self.result.seconds.append(spent + time.perf_counter() - began)
        priorities = self._local.prioritize(arguments)
        own = priorities.view()
        if priorities.entry is not None:
            outcome = priorities.entry.decision.outcome
            self.result.outcomes[outcome] = self.result.outcomes.get(outcome, 0) + 1
        self.result.compared += 1
        name = max(scores, key=lambda entry: entry["Score"])["Host"]
        if scores != own:
            best = max(own, key=lambda entry: entry["Score"])["Host"]
            changed = sum(a != b for a, b in zip(scores, own, strict=True))
            self.result.note(f"{pod.uid}: {name}, in process {best}; {changed} scores differ")
        binding = {
            "PodName": pod.name,
            "PodNamespace": pod.namespace,
            "PodUID": pod.uid,
            "Node": name,
        }
        answer = self._api.ask("bind", binding)
        bound = self._local.bind(binding)
        if answer != bound:
            self.result.note(f"{pod.uid}: bind {answer['Error']!r}, in process {bound['Error']!r}")
        if answer["Error"]:
            return None
        if bound["Error"]:
            self._cluster.book(pod, name, now)
        return name

    def _refresh(self, now: float) -> None:
        """Tell an extender that was away what the cluster looks like."""
        if self._fresh:
            return
        started: list[dict[str, Any]] = []
        for uid, value in self._running.items():
            notes = {**value["metadata"]["annotations"], TIME: repr(now)}
            notes[RUN_TIME] = repr(max(self._cluster.ends(uid) - now, 0.0))
            devices = self._cluster.pods[uid].devices.tolist()
            if devices:
                notes[INDEX] = "-".join(map(str, devices))
            started.append({**value, "metadata": {**value["metadata"], "annotations": notes}})
        # The empty list first: averages begin anew on both sides, whatever either remembers.
        lists = ({"items": [], "time": now}, {**self._nodes, "time": now})
        pods = {"items": started, "replace": True}
        for nodes in lists:
            self._api.feed_nodes(nodes)
        self._api.feed_pods(pods)
        for nodes in lists:
            self._local.feed_nodes(nodes)
        self._local.feed_pods(pods)
        self._fresh = True

    def _alone(self, pod: Pod, now: float) -> str | None:
        seen = self._viewer.see(pod, self._names, now, run_time=1.0)
        if not seen.legal.any():
            return None
        view = self._cluster.view(now)
        resources = self._cluster.resources
        used: Doubles = 1.0 - view.cpu / resources.cpu
        score = np.where(seen.legal, used[seen.row], np.inf)
        name = self._names[int(score.argmin())]
        self._cluster.book(pod, name, now)
        self.result.away += 1
        return name


def _brief(filtered: Mapping[str, Any]) -> str:
    fits = filtered["NodeNames"]
    return f"{len(fits or [])} nodes{', error ' + filtered['Error'] if filtered['Error'] else ''}"
