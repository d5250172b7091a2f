"""A real daemon that serves signals: as the policy offline, whatever the requests are like."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest
from daemon_process import running
from traffic_bundle import SMALL, make_traffic_bundle

from fairlead.ops import contract
from fairlead.platform import client
from fairlead.platform.client.asking import infeasible
from fairlead.platform.decision.seeds import generator
from fairlead.platform.decision.types import Cause, Source
from fairlead.platform.tasks import DomainFactory
from fairlead.policies.heuristics.traffic_local import local


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return make_traffic_bundle(tmp_path_factory.mktemp("bundle") / "bundle", stochastic=True)


@pytest.fixture(scope="module")
def seen(bundle):
    """Recorded observations: a morning under another rule than the policy."""
    simulator = DomainFactory("traffic", "grid", SMALL).simulator()
    rule = {rule.name: rule for rule in local(bundle.spec)}["greedy"]
    found = [simulator.reset(7)]
    while len(found) < 30:
        found.append(simulator.step(rule.act(found[-1], None)).observation)
    return found


@pytest.fixture(scope="module")
def daemon(bundle, tmp_path_factory):
    knobs = ("slot.deadline=5", "slot.simplex.enabled=false", "slot.drift.enabled=false")
    with running(bundle.folder, tmp_path_factory.mktemp("daemon"), knobs) as found:
        yield found


def asking(daemon, name, rule=None):
    return client.Client(daemon.url, "traffic", timeout=10, name=name, fallback=rule)


def test_recorded_observations_are_decided_as_offline_bit_for_bit(daemon, bundle, seen):
    sampled = 0
    with asking(daemon, "equal") as ask:
        for seq, observation in enumerate(seen):
            answer = ask.decide(observation, seq=seq, seed=seq)
            expected = bundle.actor().act(observation, generator(seq))
            np.testing.assert_array_equal(answer.actions, expected)
            assert answer.outcome == "ok" and not answer.local
            assert (answer.source == Source.POLICY).all()
            sampled += int((expected != 0).sum())
    assert sampled > 10


def test_requests_that_are_of_no_use_fall_back_and_stay_legal(daemon, bundle, seen):
    observation = seen[12]
    assert observation.active.any()
    with asking(daemon, "bad") as ask:
        stale = ask.decide(observation, seq=1, observed=time.time() - 60.0)
        assert (stale.source == Source.BASELINE).all() and (stale.cause == Cause.STALE).all()
        rule = {rule.name: rule for rule in local(bundle.spec)}["max-pressure"]
        np.testing.assert_array_equal(stale.actions, rule.act(observation, None))
        agent = np.full_like(observation.agent, np.nan)
        blind = ask.decide(replace(observation, agent=agent), seq=2)
        assert blind.outcome == "fallback" and infeasible(observation, blind.actions) == ""
        wrong = replace(observation, agent=observation.agent[:, :-1])
        with pytest.raises(client.Refused, match="shape"):
            ask.decide(wrong, seq=3)
        with pytest.raises(client.Refused, match="order"):
            ask.decide(seen[13], seq=1)
        assert ask.decide(observation, seq=4).outcome == "ok"


def test_one_blind_signal_does_not_cost_the_others_their_policy(bundle, seen, tmp_path):
    observation = next(one for one in seen[10:] if one.active.sum() >= 2)
    row = int(np.flatnonzero(observation.active)[0])
    agent = observation.agent.copy()
    agent[row] = np.nan
    knobs = (
        "slot.deadline=5", "slot.simplex.enabled=false", "slot.drift.enabled=false",
        "slot.validation.imputed_share=0.3", "slot.baseline=fixed-rotation",
    )  # fmt: skip
    with running(bundle.folder, tmp_path, knobs) as daemon, asking(daemon, "blind") as ask:
        answer = ask.decide(replace(observation, agent=agent), seq=1)
    assert answer.outcome == "degraded"
    assert answer.source[row] == Source.BASELINE and answer.cause[row] == Cause.INVALID
    assert (np.delete(answer.source, row) == Source.POLICY).all()


def told(daemon, name, **labels):
    time.sleep(0.6)  # the background's pause, and the exposition's quarter of a second
    return daemon.metric(name, domain="traffic", **labels)


def test_a_daemon_exports_what_it_sees_and_what_a_street_reports(daemon, bundle, seen):
    with asking(daemon, "street") as ask:
        answer = ask.decide(seen[20], seq=1)
        figures = {"delay_seconds": 120.0, "trips": 3, "phase_changes": 2, "local_seconds": 10.0}
        assert set(figures) < set(contract.REPORTED["traffic"])
        assert ask.report(answer.decision, measured=figures)
    queue = float(seen[20].agent[:, bundle.spec.agent_column("queue")].sum())
    (group,) = bundle.spec.groups
    assert told(daemon, "traffic_queue_vehicles", group=group) == pytest.approx(queue)
    assert told(daemon, "traffic_delay_seconds_total") == 120.0
    assert told(daemon, "traffic_trips_total") == 3.0
    assert told(daemon, "traffic_unsafe_changes_total") == 0.0
