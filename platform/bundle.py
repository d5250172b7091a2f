"""A bundle: a trained policy as the folder that evaluation and the controller daemon load.

::

    manifest.json         what it is for, how it was trained, what it saw, digests of every file
    weights.safetensors   tensors (first axis = parameter group) and each agent's group
    golden.safetensors    observations, generator seeds, and the decisions on them
    model.onnx            the same policy for other runtimes

Loading needs neither torch nor onnx. It refuses a bundle that is damaged, holds a number that is
not finite, or does not decide as it did when it was saved.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from ..policies.acting import PolicyActor, actor
from ..policies.box_acting import SetPointActor
from ..policies.interface import PolicyArrays
from ..simulators.interface import Choice, Spec
from .files import UserError, make_folder, write_atomic
from .golden import check_golden, make_golden
from .observed import Recording, check_observed, observed_of
from .spec_json import spec_from_json, spec_to_json
from .tasks import DomainFactory, Episode, Trained

FORMAT = 2
"""2 added ``observed``: quantiles of what the policy saw (:mod:`.observed`)."""
MANIFEST, WEIGHTS, GOLDEN, ONNX = (
    "manifest.json",
    "weights.safetensors",
    "golden.safetensors",
    "model.onnx",
)
_MEMBER = "member"


Flaw = Literal["digest", "schema", "parity"]


class BundleError(UserError):
    """A bundle that must not be used; names the file and what is wrong with it.

    Attributes:
        flaw: ``digest`` (missing, damaged or changed), ``schema`` (not what this version reads, or
            contents that make no policy), ``parity`` (does not decide as it did).
    """

    def __init__(self, message: str, flaw: Flaw = "schema"):
        super().__init__(message)
        self.flaw: Flaw = flaw


@dataclass(frozen=True, slots=True)
class Bundle:
    """A loaded, verified bundle.

    Attributes:
        folder: where it lies.
        manifest: the parsed manifest.
        spec: what the simulator or the live system must look like.
        arrays: the policy.
        golden: the golden decisions.
    """

    folder: Path
    manifest: Mapping[str, Any]
    spec: Spec
    arrays: PolicyArrays
    golden: Mapping[str, NDArray[Any]]

    @property
    def name(self) -> str:
        return str(self.manifest["name"])

    @property
    def digest(self) -> str:
        """SHA-256 over the manifest, which holds those of all other files; names the bundle."""
        return str(self.manifest["digest"])

    @property
    def observed(self) -> Mapping[str, Any]:
        """Quantiles of the training observations, see :mod:`.observed`."""
        return cast("Mapping[str, Any]", self.manifest["observed"])

    @property
    def stochastic(self) -> bool:
        """Whether the policy is to be sampled (as evaluated in training)."""
        return bool(self.manifest["action"]["stochastic"])

    def actor(self) -> PolicyActor | SetPointActor:
        """The policy as a controller."""
        return actor(self.spec, self.arrays, name=self.name, stochastic=self.stochastic)

    def trained(self) -> Trained:
        """The policy as executors take it."""
        return Trained(self.arrays, name=self.name, stochastic=self.stochastic)

    def factory(self) -> DomainFactory:
        """The scenario that the policy was trained on."""
        scenario = self.manifest["scenario"]
        return DomainFactory(self.manifest["domain"], scenario["name"], scenario["settings"])


@dataclass(frozen=True, slots=True)
class Contents:
    """What goes into a new bundle.

    Attributes:
        name: of the policy, as tables show it.
        spec: of the simulator it was trained on.
        arrays: the policy.
        settings: the scenario's values (JSON-able).
        provenance: how it was trained (JSON-able).
        stochastic: sample the policy (else take its best score, or its mode).
    """

    name: str
    spec: Spec
    arrays: PolicyArrays
    settings: Mapping[str, Any]
    provenance: Mapping[str, Any]
    stochastic: bool = True


def save_bundle(
    folder: Path,
    contents: Contents,
    *,
    episode: Episode,
    epochs: int,
    others: Sequence[Recording] = (),
) -> Bundle:
    """Write a bundle (over an older one) and load it again, which verifies it.

    Observations from the first ``epochs`` of the recorded ``episode`` become the golden ones. What
    the policy has seen is taken from it and the ``others``: one episode is too little to tell what
    is usual.

    Raises:
        BundleError: weights or recorded observations that are not finite.
        UserError: the folder cannot be written.
    """
    # The exporter needs onnx, which loading must not.
    from .onnx_graph import policy_graph

    spec, arrays = contents.spec, contents.arrays
    _refuse_non_finite(arrays, "the policy to save")
    deciding = actor(spec, arrays, name=contents.name, stochastic=contents.stochastic)
    weights = {**arrays.tensors, _MEMBER: np.asarray(arrays.member, np.int64)}
    files = {
        WEIGHTS: save_tensors({key: np.ascontiguousarray(value) for key, value in weights.items()}),
        GOLDEN: save_tensors(make_golden(deciding, episode, epochs=epochs)),
        ONNX: policy_graph(spec, arrays),
    }
    try:
        observed = observed_of([(episode, epochs), *others])
    except ValueError as error:
        raise BundleError(f"the episode to save: {error}") from error
    manifest: dict[str, Any] = {
        "format": FORMAT,
        "name": contents.name,
        "domain": spec.domain,
        "scenario": {"name": spec.scenario, "settings": dict(contents.settings)},
        "spec": spec_to_json(spec),
        "normaliser": "inside the policy: tensors normaliser.*, applied to raw features",
        "action": _action(spec, stochastic=contents.stochastic),
        "parameters": int(sum(array.size for array in arrays.tensors.values())),
        "observed": observed,
        "provenance": dict(contents.provenance),
        "digests": {key: _digest(data) for key, data in files.items()},
    }
    manifest["digest"] = _seal(manifest)
    text = json.dumps(manifest, indent=1, allow_nan=False) + "\n"
    return _put_in_place(folder, {**files, MANIFEST: text.encode()})


def _action(spec: Spec, *, stochastic: bool) -> dict[str, Any]:
    """How an action follows from the policy's outputs, in words."""
    if isinstance(spec.action, Choice):
        noise = " + Gumbel noise" if stochastic else ""
        return {
            "kind": "choice",
            "meaning": "index of the chosen candidate; 0 is hold",
            "stochastic": stochastic,
            "rule": f"argmax over legal candidates of score{noise}",
        }
    share = "drawn from Beta(a, b)" if stochastic else "(a - 1) / (a + b - 2)"
    return {
        "kind": "box",
        "meaning": "set-points in the unit of their box",
        "stochastic": stochastic,
        "rule": f"low + (high - low) * share, share {share}",
    }


def load_bundle(folder: Path | str) -> Bundle:
    """Read a bundle and verify digests, finite weights, shapes and golden decisions.

    Raises:
        BundleError: it is missing, damaged or from a newer version; names the file.
    """
    path = Path(folder)
    manifest = _read_manifest(path)
    digests = _digests(path, manifest)
    files = {name: _read(path / name, digest) for name, digest in digests.items()}
    try:
        weights = load_tensors(files[WEIGHTS])
        golden = load_tensors(files[GOLDEN])
        member = weights.pop(_MEMBER)
        spec = spec_from_json(manifest["domain"], manifest["scenario"]["name"], manifest["spec"])
        wrong = check_observed(manifest["observed"], spec)
        if not isinstance(manifest["action"]["stochastic"], bool) or not manifest["name"]:
            wrong = "action.stochastic must be true or false, and name must not be empty"
        kind = "choice" if isinstance(spec.action, Choice) else "box"
        if manifest["action"]["kind"] != kind:
            wrong = f"action.kind is {manifest['action']['kind']!r}, the spec is of kind {kind!r}"
        if member.dtype.kind not in "iu":
            wrong = f"{_MEMBER} must hold whole numbers, not {member.dtype}"
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise BundleError(f"{path} is not a bundle of format {FORMAT}: {error!r}") from error
    if wrong:
        raise BundleError(f"{path / MANIFEST}: {wrong}")
    bundle = Bundle(path, manifest, spec, PolicyArrays(weights, member), golden)
    _refuse_non_finite(bundle.arrays, str(path / WEIGHTS))
    try:
        deciding = bundle.actor()
    except ValueError as error:
        raise BundleError(f"{path / WEIGHTS}: {error}") from error
    differences = check_golden(deciding, golden, spec)
    if differences:
        raise BundleError(
            f"{path} does not decide as it did when it was saved: {'; '.join(differences)}",
            "parity",
        )
    return bundle


def _read_manifest(path: Path) -> dict[str, Any]:
    file = path / MANIFEST
    try:
        manifest = json.loads(_read(file, None))
    except ValueError as error:
        raise BundleError(f"{file} is damaged: {error}", "digest") from error
    if not isinstance(manifest, dict) or "format" not in manifest:
        raise BundleError(f"{file} is not the manifest of a bundle")
    found = cast("dict[str, Any]", manifest)
    if found["format"] != FORMAT:
        raise BundleError(
            f"{file} has format {found['format']}; this version reads {FORMAT}; save the "
            "policy again with it"
        )
    if found.get("digest") != _seal(found):
        raise BundleError(f"{file} is damaged: it was changed after it was written", "digest")
    return found


def _digests(path: Path, manifest: Mapping[str, Any]) -> dict[str, str]:
    """Digest of every file. No other name is read: a manifest must not point out of its folder."""
    found: Any = manifest.get("digests")
    names = (WEIGHTS, GOLDEN, ONNX)
    if not isinstance(found, Mapping) or set(cast("Mapping[str, Any]", found)) != set(names):
        raise BundleError(f"{path / MANIFEST}: digests must be those of {', '.join(names)}")
    return {name: str(found[name]) for name in names}


def _read(file: Path, digest: str | None) -> bytes:
    try:
        data = file.read_bytes()
    except OSError as error:
        raise BundleError(f"cannot read {file}: {error.strerror}", "digest") from error
    if digest is not None and _digest(data) != digest:
        raise BundleError(f"{file} is damaged: its SHA-256 is not the one in {MANIFEST}", "digest")
    return data


def _refuse_non_finite(arrays: PolicyArrays, where: str) -> None:
    for name, tensor in arrays.tensors.items():
        if not np.isfinite(tensor).all():
            raise BundleError(f"{where}: tensor {name!r} holds values that are not finite")


def _seal(manifest: Mapping[str, Any]) -> str:
    rest = {key: value for key, value in manifest.items() if key != "digest"}
    return _digest(json.dumps(rest, sort_keys=True).encode())


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _put_in_place(folder: Path, files: Mapping[str, bytes]) -> Bundle:
    """Write beside, verify there, then swap: a bundle in place is a bundle that loads."""
    scratch = folder.with_name(f".{folder.name}.tmp")
    old = folder.with_name(f".{folder.name}.old")
    make_folder(folder.parent)
    try:
        for leftover in (scratch, old):
            shutil.rmtree(leftover, ignore_errors=True)
        make_folder(scratch)
        for name, data in files.items():
            write_atomic(scratch / name, data)
        load_bundle(scratch)
        if folder.exists():
            folder.rename(old)
        scratch.rename(folder)
    except OSError as error:
        raise UserError(f"cannot write bundle {folder}: {error.strerror}") from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
    return load_bundle(folder)
