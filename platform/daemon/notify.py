"""The supervisor's datagrams: sd_notify(3) without a library."""

from __future__ import annotations

import logging
import os
import socket

_LOG = logging.getLogger(__name__)


class Supervisor:
    """Tells the service manager how the daemon is, if there is one (``NOTIFY_SOCKET``).

    Args:
        address: the socket's path; ``@`` means an abstract one; empty: nobody listens.
        watchdog: seconds within which the manager wants pings; ``None``: it wants none.
    """

    def __init__(self, *, address: str, watchdog: float | None) -> None:
        self.watchdog = watchdog
        self._address = "\0" + address[1:] if address.startswith("@") else address

    @staticmethod
    def from_environment() -> Supervisor:
        """As systemd sets it up; a watchdog that was meant for another process is not ours."""
        limit = os.environ.get("WATCHDOG_USEC", "")
        meant = os.environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        watchdog = int(limit) / 1e6 if limit.isdigit() and int(limit) and meant else None
        return Supervisor(address=os.environ.get("NOTIFY_SOCKET", ""), watchdog=watchdog)

    def tell(self, *states: str) -> bool:
        """Send ``READY=1``, ``RELOADING=1``, ``STOPPING=1``, ``WATCHDOG=1``, ``STATUS=...``.

        Returns whether somebody was told. A manager that went away must not stop the controller:
        that is logged, and the manager's own time-out acts.
        """
        if not self._address:
            return False
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
                sender.setblocking(False)
                sender.sendto("\n".join(states).encode(), self._address)
        except OSError as error:
            _LOG.warning("cannot notify the service manager: %s", error.strerror)
            return False
        return True
