"""Notices that the champion alias was moved from outside, by ``fairlead registry`` say."""

from __future__ import annotations

import threading
from collections.abc import Callable

from ..files import UserError
from .store import CHAMPION, Store


class AliasWatch:
    """Looks at a domain's alias file at intervals, in a thread of its own.

    Args:
        store: the registry.
        domain: whose champion is watched.
        current: digest of the champion that decides now.
        found: called with another digest, once until the file changes again.
        failed: called with the reason if the file cannot be read, once until it changes again.
        interval: between two looks, s.
    """

    def __init__(
        self,
        *,
        store: Store,
        domain: str,
        current: Callable[[], str],
        found: Callable[[str], None],
        failed: Callable[[str], None],
        interval: float,
    ):
        self._store, self._domain = store, domain
        self._current, self._found, self._failed = current, found, failed
        self._interval = interval
        # Whatever the file says first is looked at, be it older than this object or not.
        self._seen: bytes | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"aliases-{domain}", daemon=True)
        self._thread.start()

    def look(self) -> None:
        """Look once, now."""
        file = self._store.alias_file(self._domain)
        try:
            # Its content, not its time stamp: two moves may fall into one tick of the clock.
            content = file.read_bytes()
        except FileNotFoundError:
            content = b""
        except OSError as error:
            content = str(error).encode()
        if content == self._seen:
            return
        self._seen = content
        try:
            wanted = self._store.aliases(self._domain).get(CHAMPION)
        except UserError as error:
            self._failed(str(error))
            return
        # No champion alias means nothing: what decides goes on deciding.
        if wanted is not None and wanted != self._current():
            self._found(wanted)

    def close(self) -> None:
        """End the thread; a load in progress is waited for a short time."""
        self._stop.set()
        self._thread.join(timeout=1.0)

    def _run(self) -> None:
        while not self._stop.wait(self._interval):
            try:
                self.look()
            except Exception as error:  # noqa: BLE001 - told, and the next look is another one
                self._failed(repr(error))
