"""The rules of the house: floors, names, packaging, size; each would break something for a user."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
import zipfile
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FLOORS = ("simulators", "models", "policies", "platform")
ROOMS = (*FLOORS, "ops")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
# Import names that differ from the name of the distribution that brings them.
DISTRIBUTIONS = {"prometheus_client": "prometheus-client", "pydantic_core": "pydantic"}
# Domains name their folder in simulators and models; policies and platform are shared.
DOMAINS = {
    folder.name
    for floor in ("simulators", "models")
    for folder in (ROOT / floor).iterdir()
    if folder.is_dir() and folder.name != "__pycache__"
}


def sources(*rooms):
    found = [path for room in rooms for path in sorted((ROOT / room).rglob("*.py"))]
    assert found, f"no Python files in {rooms}"
    return found


@cache
def tree(path):
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def imports(path):
    """Yields (line, dotted target): ours as room.module, everything else as it is written."""
    package = path.relative_to(ROOT).parts[:-1]
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if not node.level:
                yield node.lineno, node.module
                continue
            base = package[: len(package) - node.level + 1]
            stem = [*base, *(node.module or "").split(".")] if node.module else [*base]
            names = [alias.name for alias in node.names] if len(stem) < 2 else [""]
            for name in names:
                yield node.lineno, "our." + ".".join([*stem, name]).strip(".")


def ours(path):
    return [(line, t.split(".")[1:]) for line, t in imports(path) if t.startswith("our.")]


def where(path, line):
    return f"{path.relative_to(ROOT)}:{line}"


def test_no_arrow_runs_up_the_floors():
    wrong = []
    for path in sources(*FLOORS):
        height = FLOORS.index(path.relative_to(ROOT).parts[0])
        for line, target in ours(path):
            # The names of metrics, dashboards and rules lie in ops, below everything.
            if target[0] == "ops" and path.relative_to(ROOT).parts[0] == "platform":
                continue
            if target[0] not in FLOORS or FLOORS.index(target[0]) > height:
                wrong.append(f"{where(path, line)} imports {'.'.join(target)}")
    assert wrong == []


def test_ops_imports_nothing_of_ours_but_itself():
    wrong = [
        f"{where(path, line)} imports {'.'.join(target)}"
        for path in sources("ops")
        for line, target in ours(path)
        if target[0] != "ops"
    ]
    assert wrong == []


def test_models_and_policies_read_only_what_the_plan_allows():
    """Models know scenario types and pure data of simulators, policies know interfaces."""
    wrong = [
        f"{where(path, line)} imports {'.'.join(target)}"
        for path in sources("policies")
        for line, target in ours(path)
        if target[0] in ("simulators", "models")
        and "heuristics" not in path.parts
        and target[1:2] not in (["interface"], ["settings"], ["streams"])
    ]
    assert wrong == []


def test_no_domain_imports_another():
    wrong = []
    for path in sources(*FLOORS):
        own = set(path.relative_to(ROOT).parts) & DOMAINS
        for line, target in ours(path):
            if own and set(target[:2]) & DOMAINS - own:
                wrong.append(f"{where(path, line)} imports {'.'.join(target)}")
    assert DOMAINS and wrong == []


def test_inside_the_package_imports_are_relative():
    wrong = [
        where(path, line)
        for path in sources(*ROOMS)
        for line, target in imports(path)
        if target.split(".")[0] in ("fairlead", *FLOORS[:3], "ops")
    ]
    assert wrong == []


def test_the_floor_checks_see_what_they_should(tmp_path):
    found = {target for _, target in imports(ROOT / "platform" / "cli" / "main.py")}
    assert {"our.platform.files", "typer", "importlib"} <= found
    assert any(
        target[:2] == ["simulators", "interface"]
        for _, target in ours(ROOT / "models" / "interface.py")
    )


def test_every_folder_with_python_files_is_packaged():
    folders = {path.parent.relative_to(ROOT) for path in sources(*ROOMS)}
    expected = {"fairlead." + ".".join(folder.parts) for folder in folders}
    assert set(PROJECT["tool"]["setuptools"]["packages"]) == expected


def test_every_room_maps_to_its_folder_and_is_typed():
    assert PROJECT["tool"]["setuptools"]["package-dir"] == {f"fairlead.{r}": r for r in ROOMS}
    assert all((ROOT / room / "py.typed").is_file() for room in ROOMS)


def test_packages_except_platform_have_an_init():
    folders = {path.parent for path in sources(*ROOMS)}
    bare = {f.relative_to(ROOT).as_posix() for f in folders if not (f / "__init__.py").is_file()}
    assert bare == {"platform"}, "platform/__init__.py would hide the standard library's platform"


def test_the_standard_library_keeps_its_platform_module():
    code = "import platform, sys; assert sys.path[0] == ''; print(platform.system())"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip()


def test_every_third_party_import_is_declared():
    wanted = {*PROJECT["project"]["dependencies"]}
    for extra in ("train", "serve", "sign", "dash", "grid2op"):
        wanted |= {*PROJECT["project"]["optional-dependencies"][extra]}
    names = {re.split(r"[\[<>=]", line)[0].lower() for line in wanted}
    # One package's newest release has the lowest version number; only a pin finds it.
    ranged = {line for line in wanted if not line.startswith("grafana-foundation-sdk==")}
    assert all(">=" in line and "<" not in line and "==" not in line for line in ranged)
    wrong = []
    for path in sources(*ROOMS):
        for line, target in imports(path):
            top = target.split(".")[0]
            if top != "our" and top not in sys.stdlib_module_names:
                name = DISTRIBUTIONS.get(top, top.replace("_", "-"))
                if name.lower() not in names:
                    wrong.append(f"{where(path, line)} imports {top}")
    assert wrong == []


def test_constraints_pin_every_dependency_once_and_by_plain_version():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9_.-]+==([0-9]+!)?[0-9][0-9a-z.]*", pin) for pin in pins), (
        pins
    )
    names = [pin.split("==")[0].lower().replace("_", "-") for pin in pins]
    assert len(set(names)) == len(names)
    groups = PROJECT["project"]["optional-dependencies"]
    declared = [*PROJECT["project"]["dependencies"], *groups["train"], *groups["dev"]]
    assert {re.split(r"[\[<>=]", line)[0].lower() for line in declared} <= set(names)
    assert "torch==2.13.0" in pins


def test_files_are_short_enough_to_hold_one_idea():
    counts = {path: path.read_text(encoding="utf-8").count("\n") for path in sources(*ROOMS)}
    long = {path.relative_to(ROOT).as_posix(): n for path, n in counts.items() if n > 400}
    assert long == {}


def test_nothing_is_stored_or_loaded_by_pickle():
    """Neither pickle itself nor the loaders that use it; processes may still pickle messages."""
    banned = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
    wrong = []
    for path in sources(*ROOMS):
        wrong += [where(path, line) for line, t in imports(path) if t.split(".")[0] in banned]
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Call):
                call = ast.unparse(node.func)
                allows = any(
                    k.arg == "allow_pickle" and ast.unparse(k.value) != "False"
                    for k in node.keywords
                )
                if call in ("torch.load", "torch.save") or allows:
                    wrong.append(where(path, node.lineno))
    assert wrong == []


def test_code_speaks_through_reports_and_logs_only():
    wrong = [
        where(path, node.lineno)
        for path in sources(*ROOMS)
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("print", "eval", "exec")
    ]
    assert wrong == []


def test_the_base_install_is_enough_for_the_command_line():
    code = (
        "import sys; from fairlead.platform.cli import main; main.build();"
        "print(sorted({'torch', 'simpy', 'polars', 'pyomo', 'highspy', 'matplotlib', 'gymnasium',"
        " 'scipy', 'onnxruntime'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_acting_side_never_loads_torch():
    code = (
        "import sys; import fairlead.policies.acting, fairlead.policies.interface;"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_the_readme_lists_exactly_the_folders_there_are():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"^\| \[?`([a-z]+)/`", text, flags=re.MULTILINE))
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if tracked.returncode:
        pytest.skip("not a git checkout")
    folders = {line.split("/")[0] for line in tracked.stdout.splitlines() if "/" in line}
    assert listed == {folder for folder in folders if not folder.startswith(".")}
    assert all((ROOT / folder / "README.md").is_file() for folder in listed)


def test_readmes_link_to_files_that_exist():
    broken = []
    for readme in (ROOT / "README.md", *(ROOT / room / "README.md" for room in (*ROOMS, "tests"))):
        for target in re.findall(r"\]\(([^)#]+)\)", readme.read_text(encoding="utf-8")):
            present = "://" in target or (readme.parent / target).exists()
            broken += [] if present else [f"{readme.relative_to(ROOT)}: {target}"]
    assert broken == []


def test_the_library_example_of_the_readme_runs():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    names = {}
    exec(block, names)  # noqa: S102 (our own README)
    assert names["step"].reward < 0.0


def test_the_example_domain_of_the_readme_passes_the_conformance_check():
    text = (ROOT / "simulators" / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    assert len(blocks) == 3
    names = {}
    exec(blocks[0], names)  # noqa: S102 (our own README)
    assert names["Tills"]().spec.agents == 4
    exec(blocks[1], names)  # noqa: S102
    exec(blocks[2], names)  # noqa: S102
    shop = names["shop"](None, None)
    assert shop.simulator(shop.scenarios["tills"](agents=7)).spec.agents == 7


def test_the_wheel_holds_every_module(tmp_path):
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    # Build from a copy: setuptools leaves build/ behind and would package what is stale in it.
    copy = tmp_path / "copy"
    for path in [*sources(*ROOMS), *(ROOT / room / "py.typed" for room in ROOMS)]:
        target = copy / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        (copy / name).write_bytes((ROOT / name).read_bytes())
    subprocess.run([*command, "--wheel-dir", str(tmp_path), str(copy)], check=True)
    wheel = next(tmp_path.glob("fairlead-*.whl"))
    names = set(zipfile.ZipFile(wheel).namelist())
    expected = {f"fairlead/{p.relative_to(ROOT).as_posix()}" for p in sources(*ROOMS)}
    assert expected <= names
    assert {f"fairlead/{room}/py.typed" for room in ROOMS} <= names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    stray = {n for n in names if n.endswith(".py")} - expected
    assert stray == set()
