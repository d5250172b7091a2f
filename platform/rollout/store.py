"""The registry: a folder of bundles addressed by digest, and names that point at them.

::

    registry/{domain}/versions/{digest}/   a bundle's files, and _SUCCESS, written last
    registry/{domain}/aliases.json         name -> digest: champion, previous, and tags of yours
    registry/{domain}/.lock                held by writers

A version never changes. What is not complete, or does not lie under its own digest, is not used.
Several processes may read and write at once: versions appear by a rename, aliases by another.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import secrets
import shutil
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from ..bundle import GOLDEN, MANIFEST, ONNX, WEIGHTS, Bundle, BundleError, load_bundle
from ..files import UserError, make_folder, write_atomic
from .signature import SIGNATURE

CHAMPION, PREVIOUS = "champion", "previous"
SUCCESS, ALIASES, VERSIONS, LOCK = "_SUCCESS", "aliases.json", "versions", ".lock"
_FILES = (MANIFEST, WEIGHTS, GOLDEN, ONNX)
_DIGEST = re.compile(r"[0-9a-f]{64}")
_NAME = re.compile(r"[a-z][a-z0-9_.-]{0,63}")
_SHORTEST = 6


@dataclass(frozen=True, slots=True)
class Version:
    """One bundle in the registry, from its manifest alone (not verified).

    Attributes:
        domain, digest, name, scenario: of the bundle.
        added: when it was added, s since 1970.
        size: of its files, bytes.
        signed: whether there is a signature (of whomever).
        aliases: names that point at it.
        problem: why it cannot be used; empty if nothing is known against it.
    """

    domain: str
    digest: str
    name: str
    scenario: str
    added: float
    size: int
    signed: bool
    aliases: tuple[str, ...]
    problem: str


class Store:
    """A registry folder.

    Args:
        root: the folder; created with the first bundle that is added.
    """

    def __init__(self, root: Path):
        self.root = root

    def add(self, source: Path) -> Bundle:
        """Copy a bundle in, verify the copy, and make it durable before it can be seen.

        Adding what is there already changes nothing, except that a signature is added to an
        unsigned version, and a damaged version is replaced.

        Raises:
            BundleError: the bundle is damaged.
            UserError: the registry cannot be written.
        """
        offered = load_bundle(source)
        domain = _checked_name(offered.spec.domain, "domain")
        target = self.folder(domain, offered.digest)
        with self._locked(domain):
            if not self._keep(target, source):
                self._copy(source, target)
        return self.load(domain, offered.digest)

    def load(self, domain: str, name: str) -> Bundle:
        """The verified bundle that an alias, a digest or the beginning of one names.

        Raises:
            BundleError: it is damaged, not complete, or another than its folder says.
            UserError: nothing of that name.
        """
        digest = self.resolve(domain, name)
        self.check(domain, digest)
        return load_bundle(self.folder(domain, digest))

    def check(self, domain: str, digest: str) -> None:
        """Whether a version is complete and lies where it belongs; contents are not verified.

        Raises:
            BundleError: it is not; says why.
        """
        folder = self.folder(domain, digest)
        problem = _problem(folder, domain)[0]
        if problem:
            raise BundleError(f"{folder}: {problem}", "digest")

    def resolve(self, domain: str, name: str) -> str:
        """Digest that an alias, a digest or the beginning of one (6 digits or more) names.

        Raises:
            UserError: there is none, or several; names the known aliases.
        """
        aliases = self.aliases(domain)
        if name in aliases:
            return aliases[name]
        known = [path.name for path in self._versions(domain)]
        found = [digest for digest in known if digest.startswith(name)]
        if len(name) >= _SHORTEST and len(found) == 1:
            return found[0]
        what = "several versions begin with" if len(found) > 1 else "there is no version or alias"
        raise UserError(
            f"registry {self.root}, domain {domain!r}: {what} {name!r}; "
            f"aliases: {', '.join(sorted(aliases)) or 'none'}; versions: {len(known)}"
        )

    def folder(self, domain: str, digest: str) -> Path:
        """Where the version lies or would lie.

        Raises:
            UserError: a domain or digest that is not one (and might lead out of the registry).
        """
        if not _DIGEST.fullmatch(digest):
            raise UserError(f"{digest!r} is not a digest: it has 64 digits 0-9a-f")
        return self.root / _checked_name(domain, "domain") / VERSIONS / digest

    def aliases(self, domain: str) -> Mapping[str, str]:
        """Name to digest.

        Raises:
            UserError: the file is damaged; names it.
        """
        return _aliases_of(self.alias_file(domain))

    def alias_file(self, domain: str) -> Path:
        """The file that holds the aliases; watch it to notice a new champion."""
        return self.root / _checked_name(domain, "domain") / ALIASES

    def point(self, domain: str, alias: str, name: str | None) -> Mapping[str, str]:
        """Move ``alias`` to what ``name`` names (``None``: remove it), in one step; all aliases.

        Moving the champion leaves its last place to ``previous``.

        Raises:
            UserError: a bad alias, or nothing of that name.
            BundleError: the version is not complete.
        """
        _checked_name(alias, "alias")
        file = self.alias_file(domain)
        with self._locked(domain):
            aliases = dict(_aliases_of(file))
            former = aliases.pop(alias, None)
            if name is not None:
                digest = self.resolve(domain, name)
                self.check(domain, digest)
                aliases[alias] = digest
                if alias == CHAMPION and former not in (None, digest):
                    aliases[PREVIOUS] = former
            write_atomic(file, json.dumps(aliases, indent=1, sort_keys=True) + "\n")
        return aliases

    def remove(self, domain: str, name: str) -> str:
        """Delete a version that no alias points at; its digest.

        Raises:
            UserError: nothing of that name, or an alias points at it.
        """
        with self._locked(domain):
            digest = self.resolve(domain, name)
            used = [alias for alias, held in self.aliases(domain).items() if held == digest]
            if used:
                raise UserError(f"version {digest[:12]} is {', '.join(used)}; move that first")
            folder = self.folder(domain, digest)
            # Renamed first, so that a crash in between leaves a leftover and not half a version.
            away = folder.with_name(f".{digest[:12]}.{secrets.token_hex(4)}.tmp")
            folder.rename(away)
            shutil.rmtree(away)
        return digest

    def list(self, domain: str | None = None) -> tuple[Version, ...]:
        """All versions, by domain and time of adding."""
        domains = [domain] if domain is not None else self.domains()
        found = [self._describe(name, path) for name in domains for path in self._versions(name)]
        return tuple(sorted(found, key=lambda v: (v.domain, v.added, v.digest)))

    def domains(self) -> tuple[str, ...]:
        """Domains that have a folder."""
        if not self.root.is_dir():
            return ()
        return tuple(
            sorted(p.name for p in self.root.iterdir() if p.is_dir() and _NAME.fullmatch(p.name))
        )

    def sweep(self) -> tuple[Path, ...]:
        """Delete what interrupted writers left behind; what was deleted."""
        gone: list[Path] = []
        for domain in self.domains():
            with self._locked(domain):
                base = self.root / domain
                for path in [*base.glob(".*.tmp"), *(base / VERSIONS).glob(".*.tmp")]:
                    if path.is_dir():
                        shutil.rmtree(path)
                    else:
                        path.unlink()
                    gone.append(path)
        return tuple(gone)

    def _keep(self, target: Path, source: Path) -> bool:
        """Whether ``target`` is there and good; if so it gets the signature that it lacks."""
        if not target.exists():
            return False
        try:
            good = load_bundle(target).digest == target.name and (target / SUCCESS).is_file()
        except BundleError:
            good = False
        if good and (source / SIGNATURE).is_file() and not (target / SIGNATURE).exists():
            write_atomic(target / SIGNATURE, (source / SIGNATURE).read_bytes())
        return good

    def _copy(self, source: Path, target: Path) -> None:
        scratch = target.with_name(f".{target.name[:12]}.{secrets.token_hex(4)}.tmp")
        old = scratch.with_name(f"{scratch.name[:-4]}.old.tmp")
        try:
            make_folder(scratch)
            extra = (SIGNATURE,) if (source / SIGNATURE).is_file() else ()
            for name in (*_FILES, *extra):
                write_atomic(scratch / name, (source / name).read_bytes())
            # When the bundle was made is written nowhere else.
            made = (source / MANIFEST).stat()
            os.utime(scratch / MANIFEST, ns=(made.st_atime_ns, made.st_mtime_ns))
            copied = load_bundle(scratch)
            if copied.digest != target.name:
                raise BundleError(f"{source} changed while it was copied", "digest")
            write_atomic(scratch / SUCCESS, f"{copied.digest}\n")
            if target.exists():
                target.rename(old)
            scratch.rename(target)
            _flush(target.parent)
        except OSError as error:
            raise UserError(f"cannot add {source} to {self.root}: {error.strerror}") from error
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
            shutil.rmtree(old, ignore_errors=True)

    def _versions(self, domain: str) -> list[Path]:
        folder = self.root / _checked_name(domain, "domain") / VERSIONS
        if not folder.is_dir():
            return []
        return [path for path in folder.iterdir() if _DIGEST.fullmatch(path.name)]

    def _describe(self, domain: str, path: Path) -> Version:
        problem, manifest = _problem(path, domain)
        scenario: Any = manifest.get("scenario", {})
        return Version(
            domain=domain,
            digest=path.name,
            name=str(manifest.get("name", "")),
            scenario=str(scenario.get("name", "") if isinstance(scenario, Mapping) else ""),
            added=(path / SUCCESS if (path / SUCCESS).is_file() else path).stat().st_mtime,
            size=sum(file.stat().st_size for file in path.iterdir()),
            signed=(path / SIGNATURE).is_file(),
            aliases=tuple(
                sorted(a for a, held in self.aliases(domain).items() if held == path.name)
            ),
            problem=problem,
        )

    @contextmanager
    def _locked(self, domain: str) -> Generator[None]:
        base = make_folder(self.root / _checked_name(domain, "domain"))
        make_folder(base / VERSIONS)
        descriptor = os.open(base / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def _problem(folder: Path, domain: str) -> tuple[str, Mapping[str, Any]]:
    """What is wrong with a version at first sight, and its manifest as far as it can be read."""
    try:
        manifest: Any = json.loads((folder / MANIFEST).read_bytes())
        if not (folder / SUCCESS).is_file():
            return f"not complete, {SUCCESS} is missing", manifest
        if manifest["digest"] != folder.name or manifest["domain"] != domain:
            return "it holds another bundle than its place says; folders were swapped", manifest
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"{MANIFEST} cannot be read: {error!r}", {}
    return "", manifest


def _aliases_of(file: Path) -> Mapping[str, str]:
    try:
        found: Any = json.loads(file.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise UserError(f"{file} cannot be read: {error}; repair or delete it") from error
    if not isinstance(found, dict):
        raise UserError(f"{file} does not hold aliases; repair or delete it")
    aliases = cast("dict[str, Any]", found)
    for alias, digest in aliases.items():
        if not (_NAME.fullmatch(alias) and isinstance(digest, str) and _DIGEST.fullmatch(digest)):
            raise UserError(f"{file}: alias {alias!r} points at {digest!r}, which is no digest")
    return cast("dict[str, str]", aliases)


def _checked_name(name: str, what: str) -> str:
    if not _NAME.fullmatch(name) or ".." in name:
        raise UserError(
            f"{name!r} cannot be the name of a {what}: a letter a-z, then up to 63 of a-z 0-9 . _ -"
        )
    return name


def _flush(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
