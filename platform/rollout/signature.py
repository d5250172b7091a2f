"""Ed25519 signature over a bundle's manifest, which holds the digests of everything else.

``manifest.sig`` beside the manifest is JSON: the algorithm, the key's fingerprint (so that a wrong
key is told from a wrong signature) and the signature. Needs the package ``cryptography``.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from ..bundle import MANIFEST
from ..daemon.settings import SignatureSettings
from ..files import UserError, write_atomic

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (
        Ed25519PrivateKey,
        Ed25519PublicKey,
    )

SIGNATURE = "manifest.sig"
ALGORITHM = "ed25519"
_LARGEST = 65536


class SignatureError(UserError):
    """A bundle whose signature is missing, damaged, by another key, or of another manifest."""


def make_keys(private: Path, public: Path) -> None:
    """Write a new pair of keys as PEM files; the private one is readable by its owner only.

    Raises:
        UserError: a file exists already (a lost key cannot be made again) or cannot be written.
    """
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    secret = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    shared = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    for path, data, mode in ((private, secret, 0o600), (public, shared, 0o644)):
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(data)
        except FileExistsError as error:
            raise UserError(f"{path} exists already; choose another name for the key") from error
        except OSError as error:
            raise UserError(f"cannot write key {path}: {error.strerror}") from error


def sign_bundle(folder: Path, private: Path) -> str:
    """Sign the manifest of the bundle in ``folder``; returns the key's fingerprint.

    Raises:
        UserError: the key or the manifest cannot be read, or the signature not be written.
    """
    key = _private_key(private)
    fingerprint = _fingerprint(key.public_key())
    signature = key.sign(_bytes(folder / MANIFEST))
    text = {
        "algorithm": ALGORITHM,
        "key": fingerprint,
        "signature": base64.b64encode(signature).decode(),
    }
    write_atomic(folder / SIGNATURE, json.dumps(text, indent=1) + "\n")
    return fingerprint


def check_signature(folder: Path, settings: SignatureSettings, *, digest: str) -> str:
    """Verify as ``settings.policy`` says; returns a warning, empty if there is none.

    ``digest`` is that of the loaded bundle: the manifest that was signed must be the one loaded.

    Raises:
        SignatureError: the policy is ``require`` and the bundle is not signed by that key.
        UserError: the public key cannot be read (with any policy but ``off``).
    """
    if settings.policy == "off":
        return ""
    if not settings.public_key:
        raise UserError(
            f"signature.policy = {settings.policy!r} needs signature.public_key, a PEM file; "
            "make one with `fairlead registry keygen`"
        )
    key = _public_key(Path(settings.public_key))
    wrong = _fault(folder, key, digest)
    if wrong and settings.policy == "require":
        raise SignatureError(f"{folder}: {wrong}; sign it with `fairlead registry sign`")
    return wrong


def _fault(folder: Path, key: Ed25519PublicKey, digest: str) -> str:
    from cryptography.exceptions import InvalidSignature

    if not (folder / SIGNATURE).is_file():
        return f"there is no {SIGNATURE}"
    manifest = _bytes(folder / MANIFEST)
    try:
        found = json.loads(_bytes(folder / SIGNATURE))
        algorithm, signer = str(found["algorithm"]), str(found["key"])
        signature = base64.b64decode(found["signature"], validate=True)
        signed = json.loads(manifest)["digest"]
    except (ValueError, KeyError, TypeError) as error:
        return f"{SIGNATURE} or {MANIFEST} is damaged: {error!r}"
    known = (ALGORITHM, _fingerprint(key))
    if (algorithm, signer) != known:
        return (
            f"{SIGNATURE} is by {algorithm[:16]} key {signer[:16]!r}, not by {' key '.join(known)}"
        )
    try:
        key.verify(signature, manifest)
    except InvalidSignature:
        return f"{SIGNATURE} does not fit {MANIFEST}"
    return "" if signed == digest else f"{MANIFEST} was changed while it was read"


def _fingerprint(key: Ed25519PublicKey) -> str:
    return hashlib.sha256(key.public_bytes_raw()).hexdigest()[:16]


def _private_key(path: Path) -> Ed25519PrivateKey:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(_bytes(path), password=None)
    except (ValueError, TypeError) as error:
        raise UserError(f"{path} is not a private key in PEM: {error}") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise UserError(f"{path} is not an Ed25519 key; make one with `fairlead registry keygen`")
    return key


def _public_key(path: Path) -> Ed25519PublicKey:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = load_pem_public_key(_bytes(path))
    except ValueError as error:
        raise UserError(f"{path} is not a public key in PEM: {error}") from error
    if not isinstance(key, Ed25519PublicKey):
        raise UserError(f"{path} is not an Ed25519 key; make one with `fairlead registry keygen`")
    return key


def _bytes(path: Path) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    if len(data) > _LARGEST and path.name != MANIFEST:
        raise UserError(f"{path} is far too large for a key or a signature ({len(data)} bytes)")
    return data
