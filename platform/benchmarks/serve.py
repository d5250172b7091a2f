"""Latency and throughput of live decisions, beside a bare numpy loop and a bare ASGI echo.

Every figure is taken in this run on this machine: the policy alone, the whole decision in process,
and the decision over each encoding. The ratios say what safety, audit and encoding cost; the
absolute marks are those of an idle machine of two cores.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import orjson

from ...simulators.interface import Doubles, Observation
from ...simulators.settings import Settings, knob
from ..bundle import Bundle
from ..daemon.assembly import assemble
from ..daemon.settings import ServeConfig, StateSettings
from ..decision.seeds import generator
from ..decision.settings import SimplexSettings, SlotSettings
from ..decision.types import Request
from ..drive.spawn import OwnDaemon
from ..progress import Report
from ..rows import Row
from ..wire import frames, oip
from .serve_bundle import bench_bundle, busy_observation
from .serve_load import latencies, post, throughput

SMALL, LARGE = 200, 1000

LENIENT = 1000.0
"""Limit of the Simplex switch: it looks ahead, but lets a policy with random weights decide."""


class Options(Settings):
    """What to measure."""

    agents: tuple[int, ...] = knob((SMALL, LARGE), "numbers of agents", usual="200,1000")
    hidden: tuple[int, ...] = knob((64, 64), "hidden layers of the policy")
    count: int = knob(2000, "decisions per latency figure", ge=20)
    seconds: float = knob(10.0, "length of a throughput run", unit="s", gt=0)
    connections: int = knob(8, "connections of a throughput run", ge=1)
    seed: int = knob(0, "of the policy's weights and of the observation", ge=0)
    quick: bool = knob(False, "smallest useful run")


PATIENT = 1.0
"""Deadline, s: a busy neighbour must show in the figures, not switch to the fallback's."""


@dataclass(frozen=True, slots=True)
class Marks:
    """Milliseconds that a figure may take; ``None``: no mark."""

    process: float | None = None
    binary: float | None = None
    binary_p99: float | None = None
    json: float | None = None
    rate: float | None = None


MARKS = {
    SMALL: Marks(process=0.25, binary=0.6, binary_p99=3.0, json=1.2, rate=1500.0),
    LARGE: Marks(binary=1.5),
}


def run(options: Options, progress: Report) -> list[Row]:
    """All figures; see ``Options``."""
    if options.quick:
        options = options.model_copy(update={"count": 200, "seconds": 1.0, "agents": (SMALL,)})
    rows: list[Row] = []
    steps = 3 * len(options.agents)
    for index, agents in enumerate(options.agents):
        with tempfile.TemporaryDirectory(prefix="fairlead-bench-") as name:
            folder = Path(name)
            bundle = bench_bundle(
                folder / "bundle", agents=agents, hidden=options.hidden, seed=options.seed
            )
            seen = busy_observation(agents, options.seed)
            progress(3 * index, steps, f"{agents} agents, in process")
            rows += _in_process(options, folder, bundle, seen)
            progress(3 * index + 1, steps, f"{agents} agents, over the wire")
            rows += _over_the_wire(options, folder, bundle, seen)
    progress(steps, steps, "done")
    return rows


def _in_process(options: Options, folder: Path, bundle: Bundle, seen: Observation) -> list[Row]:
    """The policy alone, and the whole decision with safety, metrics and audit."""
    agents = bundle.spec.agents
    actor = bundle.actor()
    settings = ServeConfig(
        state=StateSettings(folder=str(folder / "inside")),
        slot=SlotSettings(deadline=PATIENT, simplex=SimplexSettings(limit=LENIENT)),
    )
    built = assemble(settings, [bundle.folder])
    try:
        slot = built.service.slots[bundle.spec.domain]
        request = Request(observation=seen, client="bench", episode="inside")

        def plain(index: int) -> None:
            actor.act(seen, generator(index))

        def whole(index: int) -> None:
            now = time.monotonic()
            entry = slot.decide(replace(request, seq=index, received=now))
            if entry.decision.outcome != "ok":
                raise RuntimeError(f"the bench measures a fallback: {entry.decision.asked}")

        # In turns, so that both meet the same neighbours.
        bare, full = _in_turns(plain, whole, options.count)
    finally:
        asyncio.run(built.service.close())
        built.audit.close(10.0)
    name = f"{agents} agents"
    half, most = _percentiles(full)
    loop, _ = _percentiles(bare)
    return [
        Row.info(f"{name}: numpy policy alone, p50", loop, "ms"),
        _mark(f"{name}: decision in process, p50", half, _marks(agents).process),
        Row.info(f"{name}: decision in process, p99", most, "ms"),
        Row.info(f"{name}: decision in process over policy alone", half / loop, "1"),
    ]


def _over_the_wire(options: Options, folder: Path, bundle: Bundle, seen: Observation) -> list[Row]:
    """Every encoding on one connection, throughput on several, start and memory."""
    agents, domain = bundle.spec.agents, bundle.spec.domain
    request = Request(observation=seen, client="bench", episode="wire")
    infer = f"/v2/models/{domain}/infer"
    binary_body, header = _oip(request, binary=True)
    text_body, _ = _oip(request, binary=False)
    payloads = {
        "OIP binary": post(infer, binary_body, {oip.HEADER_LENGTH: str(header)}),
        "OIP JSON": post(infer, text_body, {"Content-Type": "application/json"}),
        "native frame": post(
            f"/v1/decide/{domain}",
            frames.encode_request(request, domain=domain),
            {"Content-Type": frames.MEDIA_TYPE},
        ),
    }
    marks, name = _marks(agents), f"{agents} agents"
    rows: list[Row] = []
    warm = max(20, options.count // 10)
    with _echo(10 * agents) as port:
        found = latencies("127.0.0.1", port, payloads["OIP binary"], count=options.count, warm=warm)
        floor, _ = _percentiles(found)
        rows.append(Row.info(f"{name}: bare ASGI echo of the same size, p50", floor, "ms"))
    daemon = OwnDaemon(
        bundle.folder,
        folder,
        overrides=[f"slot.simplex.limit={LENIENT}", f"slot.deadline={PATIENT}"],
    )
    daemon.start()
    try:
        started = daemon.wait()
        rows += [
            Row.at_most(f"{name}: ready after", started, "s", 2.0),
            Row.at_most(f"{name}: memory when ready", daemon.memory, "MiB", 150.0),
            Row.near(f"{name}: torch libraries mapped", _torch(daemon), "1", 0.0, 0.0),
        ]
        for encoding, payload in payloads.items():
            found = latencies("127.0.0.1", daemon.port, payload, count=options.count, warm=warm)
            half, most = _percentiles(found)
            text = encoding == "OIP JSON"
            rows += [
                _mark(f"{name}: {encoding}, p50", half, marks.json if text else marks.binary),
                _mark(f"{name}: {encoding}, p99", most, None if text else marks.binary_p99),
                Row.info(f"{name}: {encoding} over the echo, p50", half / floor, "1"),
            ]
        rate, spread = throughput(
            "127.0.0.1",
            daemon.port,
            payloads["OIP binary"],
            connections=options.connections,
            seconds=options.seconds,
        )
        title = f"{name}: OIP binary on {options.connections} connections"
        if marks.rate is None:
            rows.append(Row.info(title, rate, "1/s"))
        else:
            rows.append(Row.at_least(title, rate, "1/s", marks.rate))
        rows.append(Row.info(f"{title}, p99", _percentiles(spread)[1], "ms"))
        rows.append(Row.info(f"{name}: memory afterwards", daemon.memory, "MiB"))
    finally:
        daemon.stop()
    return rows


def _oip(request: Request, *, binary: bool) -> tuple[bytes, int]:
    """An ``/infer`` body, and the length of its JSON part."""
    seen = request.observation
    inputs: list[dict[str, object]] = []
    pieces: list[bytes] = []
    for name, kind in (
        ("agent", "FP32"),
        ("candidates", "FP32"),
        ("mask", "BOOL"),
        ("active", "BOOL"),
        ("target", "INT64"),
    ):
        tensor = getattr(seen, name)
        item: dict[str, object] = {"name": name, "datatype": kind, "shape": list(tensor.shape)}
        if binary:
            pieces.append(np.ascontiguousarray(tensor).tobytes())
            item["parameters"] = {"binary_data_size": len(pieces[-1])}
        else:
            item["data"] = tensor.reshape(-1)
        inputs.append(item)
    fields = {"client": request.client, "episode": request.episode}
    if binary:
        fields = {**fields, "binary_data_output": True}
    head = orjson.dumps({"inputs": inputs, "parameters": fields}, option=orjson.OPT_SERIALIZE_NUMPY)
    return head + b"".join(pieces), len(head)


@contextmanager
def _echo(size: int) -> Generator[int]:
    """A bare ASGI echo in a process of its own; its port."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = int(probe.getsockname()[1])
    module = f"{__package__}.serve_echo"
    child = subprocess.Popen([sys.executable, "-m", module, str(port), str(size)])  # noqa: S603
    try:
        for _ in range(200):
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1.0).close()
                break
            except OSError:
                time.sleep(0.05)
        yield port
    finally:
        child.kill()
        child.wait()


def _in_turns(
    first: Callable[[int], None], second: Callable[[int], None], count: int
) -> tuple[Doubles, Doubles]:
    """Seconds of ``count`` calls of both, one after the other, after a tenth to warm up."""
    taken = np.empty((2, count))
    for index in range(-count // 10, count):
        for row, call in enumerate((first, second)):
            began = time.perf_counter()
            call(index + count)
            if index >= 0:
                taken[row, index] = time.perf_counter() - began
    return taken[0], taken[1]


def _percentiles(seconds: Doubles) -> tuple[float, float]:
    """p50 and p99 in milliseconds."""
    half, most = np.percentile(seconds, [50.0, 99.0]) * 1e3
    return float(half), float(most)


def _mark(name: str, measured: float, mark: float | None) -> Row:
    if mark is None:
        return Row.info(name, measured, "ms")
    return Row.at_most(name, measured, "ms", mark)


def _marks(agents: int) -> Marks:
    return MARKS.get(agents, Marks())


def _torch(daemon: OwnDaemon) -> int:
    """How many of torch's libraries the daemon has in its memory."""
    maps = Path(f"/proc/{daemon.process}/maps").read_text(encoding="utf-8", errors="replace")
    return len({line.split()[-1] for line in maps.splitlines() if "torch" in line})
