"""W13: nothing is installed by scripts/setup that is not held to a hash of a lock file, made of what is declared."""

import re
import subprocess
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parents[2]
SETUP = (ROOT / "scripts" / "setup").read_text()
LOCK = (ROOT / "requirements.lock").read_text()


def pinned(name: str) -> list[str]:
    """The hashes of a distribution in the lock."""
    block = re.search(rf"^{name}==\S+ \\\n((?:    --hash=sha256:[0-9a-f]{{64}}(?: \\)?\n)+)", LOCK, re.MULTILINE)
    return re.findall(r"sha256:([0-9a-f]{64})", block[1]) if block else []


def test_every_install_requires_hashes_or_installs_this_checkout_alone() -> None:
    lines = re.sub(r"\\\n", " ", SETUP).splitlines()
    commands = [line for line in lines if re.search(r"\b(pip|pip3|uv) (pip )?(install|sync|download)\b", line)]
    assert len(commands) >= 4
    for command in commands:
        here_alone = "--editable ." in command and "--no-deps" in command and "--no-build-isolation" in command
        assert "--require-hashes" in command or here_alone, command


def test_what_builds_and_what_installs_are_in_the_lock_with_hashes() -> None:
    # hatchling's own requirements are there too: pip's resolver made the lock.
    for name in ("uv", "hatchling", "packaging", "pathspec", "pluggy", "trove-classifiers"):
        assert pinned(name), name


def test_the_installer_is_taken_by_its_own_lines_of_the_lock(tmp_path: Path) -> None:
    """pip reads what scripts/setup cuts out of the lock, and finds no line without a hash in it."""
    cut = re.search(r"sed -n '(.+)' requirements\.lock > \.venv/uv\.lock", SETUP)
    assert cut
    lines = subprocess.run(
        ["sed", "-n", cut[1], "requirements.lock"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert re.fullmatch(r"uv==[\d.]+ \\\n(    --hash=sha256:[0-9a-f]{64} \\\n)*    --hash=sha256:[0-9a-f]{64}\n", lines)
    assert re.findall(r"sha256:([0-9a-f]{64})", lines) == pinned("uv")


def test_the_lowest_lock_has_the_declared_minimum_of_each_dependency() -> None:
    """Else a minimum is not what scripts/test --lowest tests: raise it, or run scripts/generate --lock."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = [
        *project["dependencies"],
        *(one for extra in project["optional-dependencies"].values() for one in extra),
    ]
    pins = dict(re.findall(r"^([^ ]+)==([^ ]+)", (ROOT / "requirements-lowest.lock").read_text(), re.MULTILINE))
    for requirement in map(Requirement, declared):
        (lowest,) = (one.version for one in requirement.specifier if one.operator in (">=", "=="))
        assert Version(pins[requirement.name]) == Version(lowest), requirement
