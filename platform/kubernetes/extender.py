"""The scheduler extender's verbs on parsed JSON: filter, prioritize, bind, and the cluster feed.

Types as in k8s.io/kube-scheduler/extender/v1; those structs carry no JSON tags, so their keys are
capitalised. The policy answers ``prioritize``; whether a node can take a pod is never its business.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

import numpy as np

from ...policies.heuristics.scores import best_fit
from ...simulators.interface import HOLD, Bools, Doubles, Ints, Spec
from ..daemon.interface import Entry
from ..decision.types import Actions, Request, Source
from .cluster import Cluster
from .objects import Node, Pod, read_node, read_pod
from .quantities import ObjectError
from .ranking import ranked
from .view import RUN_TIME, Seen, Viewer, fits

CLIENT = "kube-scheduler"
REMEMBERED = 8192
"""Pods whose demand is kept between a question and the binding."""
_POLICY = (Source.POLICY, Source.PROJECTED, Source.PREVIOUS)

Json = Mapping[str, Any]


class Decides(Protocol):
    """Who answers: the daemon's slot, or the same decision core in process."""

    def __call__(self, request: Request, /) -> Entry: ...


@dataclass(frozen=True, slots=True)
class Priorities:
    """Answer of ``prioritize``.

    Attributes:
        hosts: as asked.
        scores: ``[M]`` 0..10.
        entry: the decision behind it; ``None`` if no node was legal, so that nobody was asked.
    """

    hosts: tuple[str, ...]
    scores: Ints
    entry: Entry | None

    def view(self) -> list[dict[str, Any]]:
        """As ``HostPriorityList``."""
        pairs = zip(self.hosts, self.scores.tolist(), strict=True)
        return [{"Host": host, "Score": score} for host, score in pairs]


class Extender:
    """One domain's extender.

    Args:
        spec: of the champion.
        viewer: makes observations of its spec.
        cluster: what is known of the cluster.
        decides: answers requests.
        run_time: expected run time of pods that name none, s.
        clock: wall clock, s since 1970.
    """

    def __init__(
        self,
        *,
        spec: Spec,
        viewer: Viewer,
        cluster: Cluster,
        decides: Decides,
        run_time: float = RUN_TIME,
        clock: Callable[[], float] = time.time,
    ):
        self.cluster, self.viewer, self._decides = cluster, viewer, decides
        self._run_time, self._clock = run_time, clock
        names = ("cpu_left", "gpu_left")
        self._left = {name: spec.candidate_column(name) for name in names}
        self._seen: OrderedDict[str, Pod] = OrderedDict()
        self._now = 0.0
        self._replayed = False

    def filter(self, arguments: object) -> dict[str, Any]:
        """``ExtenderFilterResult``: nodes that can take the pod, and why the others cannot.

        Answers in the form of the question: ``Nodes`` (nodeCacheCapable false: their capacities are
        taken from it) or ``NodeNames``. What can go wrong is told in ``Error``.
        """
        try:
            pod, names, nodes = self._asked(arguments)
        except ObjectError as error:
            return _filtered(None, None, {}, {}, str(error))
        self._time(pod)
        found = fits(self.cluster, pod, names)
        later, never = found.failed()
        able = np.flatnonzero(found.legal).tolist()
        if nodes is None:
            return _filtered(None, [names[at] for at in able], later, never, "")
        return _filtered([nodes[at] for at in able], None, later, never, "")

    def prioritize(self, arguments: object) -> Priorities:
        """Scores of the nodes: the policy's choice alone has 10.

        Where the policy did not decide (or would rather wait: an extender cannot say so here), the
        others are ordered by Best-Fit, and the choice is the fallback rule's.

        Raises:
            ObjectError: what is wrong with the arguments.
            Rejected, AuditStopped: see ``Slot.decide``.
        """
        pod, names, _ = self._asked(arguments)
        seen = self.viewer.see(pod, names, self._time(pod), run_time=self._run_time)
        if not seen.legal.any():
            return Priorities(seen.names, np.zeros(len(names), np.int64), None)
        request = Request(
            observation=seen.observation,
            agents=np.array([seen.agent]),
            client=CLIENT,
            episode=pod.uid,
            received=time.monotonic(),
            # One pod at a time: nobody to spread from, so the best score is taken.
            greedy=True,
        )
        entry = self._decides(request)
        decision = entry.decision
        value = self._values(seen, decision.preference, int(decision.source[0]))
        chosen = int(decision.actions[0]) - 1
        if chosen < HOLD or not seen.legal[chosen]:
            chosen = _best(value, seen.legal)
        return Priorities(seen.names, ranked(value, seen.legal, chosen), entry)

    def plan_binding(self, arguments: object) -> tuple[Pod, str]:
        """The pod and node of ``ExtenderBindingArgs``, if the node can take it.

        Raises:
            ObjectError: unknown pod or node, or no room for it there (any more).
        """
        wanted = _object(arguments, "ExtenderBindingArgs")
        uid, name = wanted.get("PodUID"), wanted.get("Node")
        if not isinstance(uid, str) or not isinstance(name, str):
            raise ObjectError("ExtenderBindingArgs needs the texts PodUID and Node")
        booked = self.cluster.pods.get(uid)
        if booked is not None:
            there = self.cluster.nodes[booked.node].name
            if there == name:
                return booked.pod, name
            raise ObjectError(f"pod {uid} is bound to {there} already")
        pod = self._seen.get(uid) or self.cluster.waiting.get(uid)
        if pod is None:
            raise ObjectError(f"pod {uid} is not known here: ask filter or prioritize about it")
        self._time(pod)
        found = fits(self.cluster, pod, [name])
        if not found.legal[0]:
            later, never = found.failed()
            raise ObjectError(f"node {name} cannot take pod {uid}: {(later | never)[name]}")
        return pod, name

    def book(self, pod: Pod, name: str) -> tuple[int, ...]:
        """Let the pod hold its demand (once); the devices it gets."""
        booking = self.cluster.pods.get(pod.uid)
        if booking is None:
            booking = self.cluster.book(pod, name, self._now)
        self._seen.pop(pod.uid, None)
        return () if booking is None else tuple(booking.devices.tolist())

    def unbook(self, pod: Pod) -> None:
        """Take a booking back, as if the pod still waited."""
        self.cluster.release(pod.uid, self._now)
        self._remember(pod)

    def bind(self, arguments: object) -> dict[str, str]:
        """``ExtenderBindingResult`` of a binding that is only booked here."""
        try:
            self.book(*self.plan_binding(arguments))
        except ObjectError as error:
            return {"Error": str(error)}
        return {"Error": ""}

    def taken_over(self, following: Extender) -> Extender:
        """``following`` (same cluster, another bundle) with this one's clock and memory."""
        following._seen, following._now = self._seen, self._now
        following._replayed = self._replayed
        return following

    def feed_nodes(self, value: object) -> int:
        """A ``v1.NodeList`` replaces the nodes; how many there are.

        With a member ``time`` (s since 1970) beside ``items`` the cluster is a replayed one: until
        the next list its clock is that of the messages (``fairlead.dev/time``), not the wall's.

        Raises:
            ObjectError: one of them cannot be used; nothing was changed.
        """
        body = _object(value, "NodeList")
        nodes = [read_node(item) for item in _items(body, "NodeList")]
        names = [node.name for node in nodes]
        if len(set(names)) < len(names):
            raise ObjectError("NodeList names a node twice")
        start = body.get("time")
        if start is not None and (isinstance(start, bool) or not isinstance(start, int | float)):
            raise ObjectError(f"NodeList.time = {start!r}; accepted: seconds since 1970")
        self._replayed = start is not None
        self._now = self._clock() if start is None else float(start)
        self.cluster.set_nodes(nodes, self._now)
        return len(nodes)

    def feed_pods(self, value: object) -> int:
        """A ``v1.Pod`` or ``v1.PodList``: what they are now; how many there were.

        With ``replace: true`` beside ``items`` the list is complete: other pods are forgotten.

        Raises:
            ObjectError: one of them cannot be used; nothing was changed.
        """
        body = _object(value, "Pod or PodList")
        items = _items(body, "PodList") if "items" in body else [body]
        pods = [read_pod(item) for item in items]
        if body.get("replace") is True:
            self.cluster.forget_pods(self._advance(None))
        for pod in pods:
            self.cluster.observe(pod, self._time(pod))
        return len(pods)

    def forget(self, uid: str, now: float | None = None) -> bool:
        """The pod is gone; whether it was known."""
        known = self._seen.pop(uid, None) is not None
        return self.cluster.release(uid, self._advance(now)) or known

    def _values(self, seen: Seen, preference: Actions | None, source: int) -> Doubles:
        """``[M]`` what nodes are ordered by, higher is better."""
        if preference is not None and source in _POLICY:
            return preference[0, 1:].astype(np.float64)
        columns = {
            name: seen.observation.candidates[0, 1:, column].astype(np.float64)
            for name, column in self._left.items()
        }
        return -best_fit(columns)

    def _asked(self, arguments: object) -> tuple[Pod, Sequence[str], Sequence[object] | None]:
        """Pod, node names, and the node objects if the question carries them."""
        asked = _object(arguments, "ExtenderArgs")
        pod = read_pod(asked.get("Pod"))
        self._remember(pod)
        names = asked.get("NodeNames")
        if names is not None:
            if not isinstance(names, list) or not all(
                isinstance(n, str) for n in cast("list[object]", names)
            ):
                raise ObjectError("ExtenderArgs.NodeNames is no list of texts")
            return pod, _distinct(cast("list[str]", names)), None
        nodes = asked.get("Nodes")
        if nodes is None:
            raise ObjectError("ExtenderArgs has neither Nodes nor NodeNames")
        items = _items(_object(nodes, "ExtenderArgs.Nodes"), "ExtenderArgs.Nodes")
        read: list[Node] = [read_node(item) for item in items]
        found = _distinct([node.name for node in read])
        self.cluster.update_nodes(read, self._time(pod))
        return pod, found, items

    def _remember(self, pod: Pod) -> None:
        self._seen[pod.uid] = pod
        self._seen.move_to_end(pod.uid)
        while len(self._seen) > REMEMBERED:
            self._seen.popitem(last=False)

    def _time(self, pod: Pod) -> float:
        return self._advance(pod.now)

    def _advance(self, told: float | None) -> float:
        """The cluster's clock: the wall's, or that of the replay's messages; never runs back."""
        now = told if self._replayed else self._clock()
        self._now = self._now if now is None else max(self._now, now)
        return self._now


def _best(value: Doubles, legal: Bools) -> int:
    return int(np.where(legal, value, -np.inf).argmax())


def _filtered(
    nodes: list[object] | None,
    names: list[str] | None,
    later: Mapping[str, str],
    never: Mapping[str, str],
    error: str,
) -> dict[str, Any]:
    return {
        "Nodes": None if nodes is None else {"metadata": {}, "items": nodes},
        "NodeNames": names,
        "FailedNodes": dict(later),
        "FailedAndUnresolvableNodes": dict(never),
        "Error": error,
    }


def _distinct(names: list[str]) -> list[str]:
    if len(set(names)) < len(names):
        raise ObjectError("ExtenderArgs names a node twice")
    return names


def _object(value: object, what: str) -> Json:
    if not isinstance(value, dict):
        raise ObjectError(f"{what} is no JSON object")
    return cast("dict[str, Any]", value)


def _items(value: Json, what: str) -> list[object]:
    found = value.get("items")
    if not isinstance(found, list):
        raise ObjectError(f"{what}.items is no list")
    return cast("list[object]", found)
