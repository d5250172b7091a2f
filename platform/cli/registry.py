"""``fairlead registry``: bundles in service, and the names that point at them."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from ..rollout.store import Store, Version

Registry = Annotated[
    Path, typer.Option("--registry", "-r", help="The registry's folder: STATE/registry.")
]
HERE = Path("state/registry")
Folder = Annotated[Path, typer.Argument(help="A bundle's folder, or that of a run with one.")]
Domain = Annotated[str, typer.Argument(help="Domain, for example cloud.")]
Which = Annotated[
    str, typer.Argument(metavar="VERSION", help="Alias, digest, or its first six digits or more.")
]
Json = Annotated[bool, typer.Option("--json", help="Print exactly one JSON document.")]


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    group = typer.Typer(
        no_args_is_help=True,
        help="Bundles in service: add, list, name a champion, sign. A running daemon follows the "
        "alias 'champion'.",
    )
    for command in (add, listing, check, alias, remove, sweep, keygen, sign):
        group.command("list" if command is listing else command.__name__)(command)
    app.add_typer(group, name="registry")


def add(
    folder: Folder,
    registry: Registry = HERE,
    champion: Annotated[
        bool, typer.Option("--champion", help="Make it the champion of its domain.")
    ] = False,
) -> None:
    """Copy a bundle in; it is verified, durable, and never changes after that."""
    from ..rollout.store import CHAMPION

    store = _store(registry)
    bundle = store.add(_inner(folder))
    _say(f"added {bundle.spec.domain} {bundle.digest}")
    if champion:
        store.point(bundle.spec.domain, CHAMPION, bundle.digest)
        _say(f"champion of {bundle.spec.domain} is {bundle.digest[:12]} ({bundle.name})")


def listing(
    domain: Annotated[str, typer.Argument(help="Only this domain.")] = "",
    registry: Registry = HERE,
    as_json: Json = False,
) -> None:
    """What is in the registry. Exit status 1 if something in it cannot be used."""
    from ..rows import Row, report

    versions = _store(registry).list(domain or None)
    rows = [Row.info(f"{v.domain} {v.digest[:12]}", _described(v), "") for v in versions]
    extra = {"versions": [_document(v) for v in versions]}
    bad = any(version.problem for version in versions)
    status = report(f"registry {registry}", rows, as_json=as_json, extra=extra)
    raise typer.Exit(1 if bad else status)


def check(domain: Domain, version: Which, registry: Registry = HERE) -> None:
    """Verify digests, finite weights and golden decisions of a version."""
    bundle = _store(registry).load(domain, version)
    _say(f"{domain} {bundle.digest} ({bundle.name}) is whole and decides as it did")


def alias(
    domain: Domain,
    name: Annotated[str, typer.Argument(help="champion, or a name of your own.")],
    version: Annotated[
        str, typer.Argument(metavar="[VERSION]", help="Alias, digest or its beginning.")
    ] = "",
    registry: Registry = HERE,
    delete: Annotated[bool, typer.Option("--delete", help="Remove the alias instead.")] = False,
) -> None:
    """Move an alias, in one step. The champion before it is kept as 'previous'."""
    from ..files import UserError

    if delete == bool(version):
        raise UserError("say where the alias shall point, or --delete it")
    aliases = _store(registry).point(domain, name, None if delete else version)
    _say(f"{domain}: " + (", ".join(f"{k} = {v[:12]}" for k, v in aliases.items()) or "no alias"))


def remove(domain: Domain, version: Which, registry: Registry = HERE) -> None:
    """Delete a version that no alias points at."""
    _say(f"removed {domain} {_store(registry).remove(domain, version)}")


def sweep(registry: Registry = HERE) -> None:
    """Delete what interrupted writers left behind."""
    gone = _store(registry).sweep()
    _say(f"deleted {len(gone)} leftovers" if gone else "nothing to delete")


def keygen(
    private: Annotated[Path, typer.Argument(help="New file for the private key (mode 0600).")],
    public: Annotated[Path, typer.Argument(help="New file for the public key.")],
) -> None:
    """Make a pair of Ed25519 keys to sign bundles with."""
    from ..rollout.signature import make_keys

    make_keys(private, public)
    _say(f"keep {private} secret; the daemon needs signature.public_key = {str(public)!r}")


def sign(
    folder: Folder,
    key: Annotated[Path, typer.Option("--key", help="PEM file of the private key.")],
) -> None:
    """Sign a bundle, before or after it was added (add it again to hand in the signature)."""
    from ..rollout.signature import sign_bundle

    inner = _inner(folder)
    _say(f"signed {inner} with key {sign_bundle(inner, key)}")


def _store(registry: Path) -> Store:
    from ..rollout.store import Store

    return Store(registry)


def _inner(folder: Path) -> Path:
    from ..bundle import MANIFEST

    inner = folder / "bundle"
    return inner if (inner / MANIFEST).is_file() else folder


def _described(version: Version) -> str:
    added = datetime.fromtimestamp(version.added, tz=UTC).strftime("%Y-%m-%d %H:%M")
    parts = [
        *(f"[{name}]" for name in version.aliases),
        version.name,
        version.scenario,
        f"{added} UTC",
        f"{version.size / 1024:.0f} KiB",
        "signed" if version.signed else "",
        f"UNUSABLE: {version.problem}" if version.problem else "",
    ]
    return " ".join(part for part in parts if part)


def _document(version: Version) -> dict[str, object]:
    from dataclasses import asdict

    return asdict(version)


def _say(line: str) -> None:
    typer.echo(line)
