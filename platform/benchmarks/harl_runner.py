"""Time the actor updates of a HARL checkout (github.com/PKU-MARL/HARL) and follow its factor.

A script for another interpreter: it imports nothing of ours, only torch, numpy and the checkout,
and prints one JSON line::

    PYTHON harl_runner.py CHECKOUT --algorithm hatrpo --agents 8

Actors and their buffers are built from the checkout's own default configuration and filled with
synthetic roll-outs as in ``update_problem``: random observations and actions sampled from the
actors. Spaces are small stand-ins, because HARL reads only their class names and shapes; its
environments, which need many packages, are left out of the import.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import resource
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch

EXIT_CHECKOUT = 3
"""Exit status if the path holds no usable checkout; the reason is on stderr."""


UNSEEN = 256
"""Observations per agent on which the true improvement is evaluated."""

Rng = np.random.Generator


class Box:
    """Continuous space; the name is what HARL looks at."""

    def __init__(self, width: int) -> None:
        self.shape = (width,)
        self.low, self.high = -np.ones(width, np.float32), np.ones(width, np.float32)


class Discrete:
    """Choice among ``n``; the name is what HARL looks at."""

    def __init__(self, n: int) -> None:
        self.n, self.shape = n, ()


@dataclass
class Sweep:
    """What one pass over all agents measured; the factor's figures are listed after each agent.

    ``train_seconds`` of HARL's own update, ``factor_seconds`` of the log-probabilities before and
    after, both process-CPU; ``gain`` is the true improvement of each agent (``team`` only).
    """

    train_seconds: float = 0.0
    factor_seconds: float = 0.0
    gain: list[float | None] = field(default_factory=list)
    factor_max: list[float | None] = field(default_factory=list)
    effective_share: list[float | None] = field(default_factory=list)
    failed_at: int | None = None
    failure: str | None = None


def main() -> int:
    """Measure as the command line says; returns the exit status."""
    options = _options()
    torch.set_num_threads(1)
    try:
        registry, buffer_type, defaults = load_checkout(options.checkout, options.algorithm)
    except (ImportError, OSError, KeyError, ValueError) as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        return EXIT_CHECKOUT
    settings = defaults | {
        "episode_length": options.steps,
        "n_rollout_threads": options.threads,
    }
    sweeps: list[Sweep] = []
    for repeat in range(options.repeats):
        torch.manual_seed(options.seed + repeat)
        rng = np.random.default_rng(options.seed + repeat)
        team = build(registry[options.algorithm], buffer_type, settings, options, rng)
        sweeps.append(sweep(*team, settings, rng, kind=options.advantage))
    sys.stdout.write(json.dumps(_document(options, settings, sweeps), allow_nan=False) + "\n")
    return 0


def load_checkout(checkout: Path, algorithm: str) -> tuple[dict[str, Any], Any, dict[str, Any]]:
    """HARL's registry of actors, its actor buffer and the default configuration of an algorithm.

    Raises:
        OSError: the configuration file is not there.
        ImportError: the modules cannot be imported.
    """
    config = checkout / "harl" / "configs" / "algos_cfgs" / f"{algorithm}.yaml"
    defaults = read_flat_yaml(config.read_text(encoding="utf-8"))
    sys.path.insert(0, str(checkout))
    # HARL's tools import every environment; an update needs none of them.
    for name in ("harl.envs", "harl.envs.env_wrappers"):
        sys.modules[name] = ModuleType(name)
    wrappers: Any = sys.modules["harl.envs.env_wrappers"]
    wrappers.ShareSubprocVecEnv = wrappers.ShareDummyVecEnv = object
    actors = importlib.import_module("harl.algorithms.actors")
    buffers = importlib.import_module("harl.common.buffers.on_policy_actor_buffer")
    return actors.ALGO_REGISTRY, buffers.OnPolicyActorBuffer, defaults


def read_flat_yaml(text: str) -> dict[str, Any]:
    """Keys and plain values of a two-level YAML file, sections merged as HARL merges them.

    Reads what those files hold: numbers, booleans, ``~``, quoted and bare words, lists of numbers.

    Raises:
        ValueError: a line that is neither a section nor ``key: value``.
    """
    values: dict[str, Any] = {}
    for line in text.splitlines():
        content = line.split("#", 1)[0].strip()
        if not content:
            continue
        key, colon, value = content.partition(":")
        if not colon:
            raise ValueError(f"cannot read the line {line!r}")
        if value.strip():
            values[key.strip()] = _value(value.strip())
    return values


def _value(text: str) -> Any:
    words = {"true": True, "false": False, "~": None, "null": None}
    if text.lower() in words:
        return words[text.lower()]
    try:
        return json.loads(text)
    except ValueError:
        return text.strip("\"'")


def build(
    actor_type: Any,
    buffer_type: Any,
    settings: dict[str, Any],
    options: argparse.Namespace,
    rng: Rng,
) -> tuple[list[Any], list[Any]]:
    """Actors that share nothing, and their buffers with a roll-out of random observations."""
    seen = Box(options.observation)
    acted = Discrete(options.actions) if options.space == "discrete" else Box(options.actions)
    actors = [actor_type(settings, seen, acted) for _ in range(options.agents)]
    buffers = [buffer_type(settings, seen, acted) for _ in actors]
    steps, threads = settings["episode_length"], settings["n_rollout_threads"]
    for actor, buffer in zip(actors, buffers, strict=True):
        buffer.obs[:] = rng.standard_normal(buffer.obs.shape)
        flat = buffer.obs[:-1].reshape(steps * threads, -1)
        states = buffer.rnn_states[:-1].reshape(steps * threads, *buffer.rnn_states.shape[2:])
        masks = np.ones((steps * threads, 1), np.float32)
        with torch.no_grad():
            actions, logs, _ = actor.get_actions(flat, states, masks)
        buffer.actions[:] = actions.numpy().reshape(buffer.actions.shape)
        buffer.action_log_probs[:] = logs.numpy().reshape(buffer.action_log_probs.shape)
    return actors, buffers


def sweep(
    actors: list[Any], buffers: list[Any], settings: dict[str, Any], rng: Rng, *, kind: str
) -> Sweep:
    """Update the actors one after another; a failure ends the sweep and is part of the result.

    ``own``: every agent has noise of its own as its advantage and the factor stays 1, so that an
    update's time does not depend on what came before it. ``noise``: all fit the same noise.
    ``team``: the advantage is the number of favourite actions taken, standardised. In both, each
    agent multiplies the factor by its ratio, as HARL's runner does.
    """
    shape = (settings["episode_length"], settings["n_rollout_threads"], 1)
    factor = np.ones(shape, np.float32)
    advantage = rng.standard_normal(shape).astype(np.float32)
    favourite = [0] * len(actors)
    if kind == "team":
        favourite = [
            int(choice) for choice in rng.integers(actors[0].act_space.n, size=len(actors))
        ]
        pairs = zip(buffers, favourite, strict=True)
        taken = np.sum([buffer.actions == choice for buffer, choice in pairs], axis=0)
        advantage = ((taken - taken.mean()) / taken.std()).astype(np.float32)
    measured = Sweep()
    for position, (actor, buffer) in enumerate(zip(actors, buffers, strict=True)):
        if kind == "own":
            advantage = rng.standard_normal(shape).astype(np.float32)
        unseen = rng.standard_normal((UNSEEN, *buffer.obs.shape[2:])).astype(np.float32)
        buffer.update_factor(factor)
        try:
            hoped = favoured(actor, unseen, favourite[position]) if kind == "team" else 0.0
            begin = time.process_time()
            before = log_probabilities(actor, buffer)
            start = time.process_time()
            # HARL reports rejected steps on stdout, which here belongs to the result.
            with contextlib.redirect_stdout(sys.stderr):
                actor.train(buffer, advantage.copy(), "EP")
            end = time.process_time()
            after = log_probabilities(actor, buffer)
            joined = getattr(torch, settings["action_aggregation"])
            ratio = joined(torch.exp(after - before), dim=-1).numpy().reshape(shape)
            measured.factor_seconds += start - begin + time.process_time() - end
            measured.train_seconds += end - start
            if kind == "team":
                measured.gain.append(_finite(favoured(actor, unseen, favourite[position]) - hoped))
        except (ValueError, RuntimeError, ArithmeticError) as error:
            measured.failed_at = position + 1
            measured.failure = f"{type(error).__name__}: {str(error).splitlines()[0]}"
            break
        if kind != "own":
            with np.errstate(over="ignore", invalid="ignore"):
                factor = factor * ratio
            measured.factor_max.append(_finite(float(factor.max())))
            measured.effective_share.append(effective_share(factor))
    return measured


def favoured(actor: Any, observations: Any, favourite: int) -> float:
    """Probability of one action, mean over observations."""
    rows = len(observations)
    states = np.zeros((rows, 1, actor.args["hidden_sizes"][-1]), np.float32)
    ones = np.ones((rows, 1), np.float32)
    chosen = np.full((rows, 1), favourite, np.float32)
    with torch.no_grad():
        logs, _, _ = actor.evaluate_actions(observations, states, chosen, ones)
    return float(logs.exp().mean())


def log_probabilities(actor: Any, buffer: Any) -> torch.Tensor:
    """``log pi(a | o)`` of all stored decisions, ``[samples, action dimensions]``."""
    samples = buffer.actions.shape[0] * buffer.actions.shape[1]

    def rows(array: Any) -> Any:
        return array[: buffer.actions.shape[0]].reshape(samples, *array.shape[2:])

    legal = None if buffer.available_actions is None else rows(buffer.available_actions)
    arrays = (buffer.obs, buffer.rnn_states, buffer.actions, buffer.masks)
    with torch.no_grad():
        logs, _, _ = actor.evaluate_actions(
            *(rows(array) for array in arrays), legal, rows(buffer.active_masks)
        )
    return logs


def effective_share(factor: Any) -> float | None:
    """Effective sample size over the number of samples; none if a weight is not finite."""
    weight = factor.astype(np.float64).ravel()
    if not np.isfinite(weight).all() or weight.max() <= 0.0:
        return None
    weight = weight / weight.max()
    return float(weight.sum() ** 2 / (np.square(weight).sum() * weight.size))


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None


def _document(
    options: argparse.Namespace, settings: dict[str, Any], sweeps: list[Sweep]
) -> dict[str, Any]:
    return {
        "algorithm": options.algorithm,
        "agents": options.agents,
        "samples": options.steps * options.threads,
        "space": options.space,
        "advantage": options.advantage,
        "hidden_sizes": settings["hidden_sizes"],
        "train_seconds": [one.train_seconds for one in sweeps],
        "factor_seconds": [one.factor_seconds for one in sweeps],
        "gain": sweeps[0].gain,
        "factor_max": sweeps[0].factor_max,
        "effective_share": sweeps[0].effective_share,
        "failed_at": sweeps[0].failed_at,
        "failure": sweeps[0].failure,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024.0,
        "torch": torch.__version__,
    }


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Time HARL's actor updates; one JSON line.")
    parser.add_argument("checkout", type=Path, help="root of a HARL checkout")
    parser.add_argument("--algorithm", choices=("hatrpo", "happo"), default="hatrpo")
    parser.add_argument("--agents", type=int, default=8)
    parser.add_argument("--steps", type=int, default=200, help="steps of an episode")
    parser.add_argument("--threads", type=int, default=10, help="episodes in parallel")
    parser.add_argument("--observation", type=int, default=18)
    parser.add_argument("--actions", type=int, default=5, help="choices, or dimensions of a box")
    parser.add_argument("--space", choices=("discrete", "box"), default="discrete")
    parser.add_argument(
        "--advantage",
        choices=("own", "noise", "team"),
        default="own",
        help="own: noise per agent, factor 1; noise: one for all; team: favourites (discrete)",
    )
    parser.add_argument("--repeats", type=int, default=1, help="sweeps, each with new actors")
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
