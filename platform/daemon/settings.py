"""Configuration of the daemon: one TOML file, every knob with effect, unit and range."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ...simulators.settings import Settings, knob
from ..decision.settings import SlotSettings


class ServerSettings(Settings):
    """Where it listens, and how patient it is with clients."""

    host: str = knob("127.0.0.1", "address of the data plane; others than loopback need tokens")
    port: int = knob(
        8470, "port of the data plane (0: any free one, printed at start)", ge=0, le=65535
    )
    frames: str = knob("", "unix socket for length-prefixed frames (empty: none)")
    admin: str = knob("", "unix socket (mode 0600) of the admin API; empty switches the API off")
    receipt_deadline: float = knob(
        2.0, "time to receive a whole request, header and body", unit="s", usual="1..10", gt=0
    )
    idle_timeout: float = knob(
        60.0, "idle keep-alive connections are closed after it", unit="s", gt=0
    )
    max_header: int = knob(16384, "largest header of a request", unit="bytes", ge=1024)
    max_connections: int = knob(512, "open connections in all", ge=1)
    max_connections_per_peer: int = knob(256, "open connections of one address", ge=1)
    drain: float = knob(
        10.0, "longest time to answer what was accepted after SIGTERM", unit="s", gt=0
    )
    selftest_interval: float = knob(
        2.0, "time between self-tests through the real decision path", unit="s", gt=0
    )
    selftest_age: float = knob(
        10.0, "age of the last good self-test beyond which the daemon is not ready", unit="s", gt=0
    )


class AdmissionSettings(Settings):
    """Bounded queues, so that overload is refused at once instead of answered late."""

    queue: int = knob(64, "requests that may wait for a slot's decision", ge=1, le=65536)
    rate: float = knob(0.0, "decisions per second and principal (0: no limit)", unit="1/s", ge=0)
    burst: int = knob(100, "decisions a principal may save up", ge=1)
    body_slack: float = knob(
        1.25, "largest body: size of an observation of the bundle times this", ge=1
    )


class SecuritySettings(Settings):
    """Who may do what. Without tokens only loopback and unix sockets are served."""

    tokens: str = knob(
        "", "file with hashed bearer tokens and their scopes (`fairlead serve token`)"
    )
    tls_certificate: str = knob("", "PEM file of the server's certificate (empty: no TLS)")
    tls_key: str = knob("", "PEM file of its key")
    tls_client_ca: str = knob(
        "", "PEM file of the CA whose client certificates are required (mTLS)"
    )


class StateSettings(Settings):
    """What survives a restart, and where bundles live."""

    folder: str = knob("state", "folder of the registry, the audit and the state file")
    save_every: float = knob(
        1.0, "longest time between two writes of the state file", unit="s", gt=0
    )
    keep: int = knob(2, "former champions kept in memory for rollback and the ladder", ge=1, le=8)
    watch: float = knob(2.0, "time between two looks at the champion alias", unit="s", gt=0)
    history: int = knob(
        24, "memory for each domain's latest decisions (repeats, page)", unit="MiB", ge=1, le=4096
    )


class SignatureSettings(Settings):
    """Optional Ed25519 signature of a bundle's manifest."""

    policy: Literal["off", "warn", "require"] = knob(
        "off", "what an unsigned or wrongly signed bundle meets"
    )
    public_key: str = knob("", "PEM file of the public key")


class AuditSettings(Settings):
    """The append-only record of every decision."""

    enabled: bool = knob(True, "write the audit")
    sample: float = knob(
        1.0,
        "share of decisions recorded with their full observation, so that they can be replayed; "
        "interventions always are",
        ge=0,
        le=1,
    )
    full_rate: float = knob(
        20.0,
        "decisions of one domain recorded with their full observation, at most, on average; ten "
        "seconds' worth at once; beyond, only who, when and what was done. Interventions always "
        "are recorded in full (0: no limit)",
        unit="1/s",
        ge=0,
    )
    segment: int = knob(256, "size at which a new segment begins", unit="MiB", ge=1)
    keep: int = knob(
        16, "how many full segments' worth of records is kept; older files go (0: all)", ge=0
    )
    fsync: float = knob(1.0, "longest time between two flushes to disk", unit="s", gt=0)
    queue: int = knob(1024, "records that may wait for the writer", ge=16)
    on_error: Literal["continue", "stop"] = knob(
        "continue",
        "a record that cannot be written: continue deciding with an alarm, or refuse decisions",
    )


class RolloutSettings(Settings):
    """Shadow and canary."""

    shadow_timeout: float = knob(0.5, "time of one shadow decision", unit="s", gt=0)
    steps: tuple[Annotated[float, Field(gt=0, le=1)], ...] = knob(
        (0.05, 0.25, 1.0), "shares of a canary, one after another"
    )
    unit: Literal["window", "group"] = knob(
        "window", "what switches together: time windows of all agents, or coupling groups"
    )
    window: int = knob(20, "decisions of one time window", ge=1)
    min_samples: int = knob(50, "canary decisions before a verdict", ge=1)
    min_healthy: float = knob(
        60.0, "healthy time before the next share may be asked for", unit="s", ge=0
    )
    max_fallback: float = knob(
        0.05, "share of canary decisions with fallbacks beyond which it is aborted", ge=0, le=1
    )
    max_cost: float = knob(
        0.1, "predicted cost above the champion's beyond which it is aborted (share)", ge=0
    )


class PageSettings(Settings):
    """The operator page."""

    enabled: bool = knob(True, "serve the page at /")
    prometheus: str = knob(
        "", "URL of a Prometheus server for the dashboards (empty: no dashboards)"
    )


class KubernetesSettings(Settings):
    """The scheduler extender."""

    api: str = knob(
        "", "URL of the API server for the bind verb (empty: bindings are only booked here)"
    )
    token: str = knob("", "file with the bearer token for it, read anew for every binding")
    ca: str = knob("", "PEM file of the CA of its certificate (empty: the system's)")
    timeout: float = knob(2.0, "time for one binding at the API server", unit="s", gt=0, le=60)
    run_time: float = knob(
        0.0, "run time of pods that name none (0: the median of training)", unit="s", ge=0
    )


class ServeConfig(Settings):
    """The whole daemon."""

    server: ServerSettings = knob(ServerSettings(), "listening")
    admission: AdmissionSettings = knob(AdmissionSettings(), "admission")
    security: SecuritySettings = knob(SecuritySettings(), "security")
    signature: SignatureSettings = knob(SignatureSettings(), "signatures of bundles")
    state: StateSettings = knob(StateSettings(), "state")
    audit: AuditSettings = knob(AuditSettings(), "audit")
    rollout: RolloutSettings = knob(RolloutSettings(), "shadow and canary")
    page: PageSettings = knob(PageSettings(), "operator page")
    kubernetes: KubernetesSettings = knob(KubernetesSettings(), "scheduler extender")
    slot: SlotSettings = knob(SlotSettings(), "defaults of every slot")
    slots: dict[str, SlotSettings] = knob({}, "knobs of one domain's slot, by domain name")
    tick: dict[str, Annotated[float, Field(gt=0)]] = knob(
        {}, "expected seconds between observations by domain (none: the bundle's dt)"
    )
