"""Bearer tokens: stored as hashes, compared in constant time, never shown again.

The token file has one line per token: ``name scopes sha256``, scopes joined by commas. A token is
256 random bits, so a plain hash of it cannot be searched; it needs no salt and no slow hash.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ..files import UserError, write_atomic

SCOPES = ("read", "infer", "admin")
"""What a principal may do: look, have decisions made, change who decides."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_HASH = re.compile(r"[0-9a-f]{64}")
_PREFIX = "fl_"


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks, as far as that was proven.

    Attributes:
        name: token name, certificate subject, ``local`` or ``admin-socket``; what the audit keeps.
        scopes: out of :data:`SCOPES`.
    """

    name: str
    scopes: frozenset[str]


@dataclass(frozen=True, slots=True)
class Token:
    """One line of the file."""

    name: str
    scopes: frozenset[str]
    digest: str


@dataclass(frozen=True, slots=True)
class Keyring:
    """All known tokens."""

    tokens: tuple[Token, ...] = ()

    def find(self, presented: bytes) -> Principal | None:
        """The principal of a presented token; takes as long for a near miss as for a wild one."""
        digest = hashlib.sha256(presented).hexdigest()
        found: Token | None = None
        for token in self.tokens:  # no early end: the place in the file must not show in the time
            if hmac.compare_digest(token.digest, digest):
                found = token
        return None if found is None else Principal(found.name, found.scopes)


def read_tokens(path: Path) -> Keyring:
    """Read a token file.

    Raises:
        UserError: unreadable, readable by others, or a line that is not understood (the line's
            number, never its content).
    """
    try:
        mode = path.stat().st_mode
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise UserError(f"cannot read token file {path}: {reason}") from error
    if mode & 0o007:
        raise UserError(f"token file {path} is open to every user; run: chmod 600 {path}")
    found: list[Token] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.startswith("#"):
            continue
        parts = line.split()
        if len(parts) != 3 or not _NAME.fullmatch(parts[0]) or not _HASH.fullmatch(parts[2]):
            raise UserError(
                f"{path}, line {number}: expected 'name scopes sha256'; "
                "create tokens with: fairlead serve token NAME"
            )
        found.append(Token(parts[0], _scopes(parts[1].split(","), path, number), parts[2]))
    names = [token.name for token in found]
    doubled = sorted({name for name in names if names.count(name) > 1})
    if doubled:
        raise UserError(f"{path}: name {doubled[0]!r} is given twice; remove one of the lines")
    return Keyring(tuple(found))


def add_token(path: Path, name: str, scopes: Iterable[str]) -> str:
    """Create a token, store its hash in the file (mode 0600), and return it: the only time.

    Raises:
        UserError: the name is taken or not acceptable, a scope is unknown.
    """
    if not _NAME.fullmatch(name):
        raise UserError(f"token name {name!r}: use up to 64 letters, digits, '.', '_' or '-'")
    wanted = _scopes(scopes, path, 0)
    known = read_tokens(path).tokens if path.exists() else ()
    if any(token.name == name for token in known):
        raise UserError(f"{path} has a token named {name!r}; remove its line to replace it")
    token = _PREFIX + secrets.token_urlsafe(32)
    digest = hashlib.sha256(token.encode()).hexdigest()
    before = path.read_text(encoding="utf-8") if path.exists() else "# name scopes sha256\n"
    if not before.endswith("\n"):
        before += "\n"
    line = f"{name} {','.join(scope for scope in SCOPES if scope in wanted)} {digest}\n"
    previous = os.umask(0o077)
    try:
        write_atomic(path, before + line)
    finally:
        os.umask(previous)
    return token


def _scopes(words: Iterable[str], path: Path, line: int) -> frozenset[str]:
    found = frozenset(words)
    unknown = sorted(found - set(SCOPES))
    if unknown or not found:
        where = f"{path}, line {line}" if line else "--scope"
        raise UserError(f"{where}: scope {(unknown or [''])[0]!r}; known: {', '.join(SCOPES)}")
    return found
