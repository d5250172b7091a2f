"""What a bridge to a real system is written with: ask the daemon, fall back when it is away.

A bridge reads the real system, builds an observation, asks, and executes::

    from fairlead.platform import client

    rule = client.baseline("runs/cloud/bundle")
    with client.Client("http://127.0.0.1:8470", "cloud", fallback=rule, timeout=0.2) as daemon:
        for seq in itertools.count():
            observation = read_the_system()  # arrays in the columns of the bundle's spec
            answer = daemon.decide(observation, seq=seq)
            execute(answer.actions)  # always there, feasible and finite
            if answer.local:
                log.warning("decided here: %s", answer.problem)
            elif broken := measure_the_system():  # for example {"coupling": 1}
                daemon.report(answer.decision, broken)

Needs numpy, orjson and the standard library; one :class:`Client` serves one thread.
"""

from .asking import Answer, Client, Refused, Unavailable
from .circuit import Circuit
from .fallback import baseline
from .transport import TransportError

__all__ = ["Answer", "Circuit", "Client", "Refused", "TransportError", "Unavailable", "baseline"]
