"""The programs in other languages under gen/ and tests/polyglot: what they need, how they are built and started."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
BUILT = ROOT / ".venv" / "polyglot"  # what Go and Cargo make; the others build beside their sources
PROGRAMS = ("conformance", "quickstart", "bulk")
Command = tuple[str, ...]


class ToolchainMissing(RuntimeError):
    """A language cannot be used on this machine; the text says what it lacks."""


@dataclass(frozen=True)
class Language:
    """One language.

    Attributes:
        needs: programs that must be on PATH.
        node_packages: folders below the project's root into which npm installs what package-lock.json pins.
        builds: folders below the project's root, and what to run there, in this order.
        tests: the same for the package's own tests.
        starts: how each program that it has is started, by its name in PROGRAMS.
    """

    needs: tuple[str, ...]
    builds: tuple[tuple[str, Command], ...]
    tests: tuple[tuple[str, Command], ...]
    starts: dict[str, Command]
    node_packages: tuple[str, ...] = ()

    def build(self) -> None:
        """Build the package and its programs; quick when nothing changed. Raises ToolchainMissing."""
        for program in self.needs:
            if shutil.which(program) is None:
                raise ToolchainMissing(f"there is no {program} on this machine")
        for folder in self.node_packages:
            lock, done = (ROOT / folder / name for name in ("package-lock.json", "node_modules/.package-lock.json"))
            if not done.exists() or done.stat().st_mtime < lock.stat().st_mtime:
                run(folder, ("npm", "ci", "--ignore-scripts", "--silent"))
        for folder, command in self.builds:
            run(folder, command)

    def test(self) -> str:
        """Run the package's own tests after `build`, and return what they print."""
        return "".join(run(folder, command) for folder, command in self.tests)

    def command(self, program: str, *arguments: str) -> list[str]:
        """The command line of a program, to be run in the project's root."""
        return [*self.starts[program], *arguments]


def run(folder: str, command: Command) -> str:
    """Run a command in a folder of the project; raises RuntimeError with what it printed if it fails."""
    environment = os.environ | {"CARGO_TARGET_DIR": str(BUILT / "rust")}
    done = subprocess.run(
        command,
        cwd=ROOT / folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=1200,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"in {folder}: {' '.join(command)}\n{done.stdout}")
    return done.stdout


_GO = str(BUILT / "go")
_RUST = BUILT / "rust" / "release"
_NODE = ("node", "--enable-source-maps")
_TSC = "node_modules/.bin/tsc"
_MAVEN = ("mvn", "--quiet", "--batch-mode", "--no-transfer-progress", "-Dstyle.color=never")
_JAVA = ("java", "-cp")


def _jars(*folders: str) -> str:
    return os.pathsep.join(str(ROOT / folder) for folder in folders)


_CONFORMANCE = "tests/polyglot/java/conformance/target/"
_EXAMPLES = _jars(*(f"gen/java/target/{part}" for part in ("classes", "test-classes", "lib/*")))

LANGUAGES = {
    "python": Language((), (), (), {"conformance": (sys.executable, "-m", "tests.polyglot.python.conformance")}),
    "go": Language(
        ("go",),
        (
            ("gen/go", ("go", "build", "-o", _GO + "/", "./...")),
            ("tests/polyglot/go", ("go", "build", "-o", f"{_GO}/conformance", ".")),
        ),
        (("gen/go", ("go", "vet", "./...")), ("gen/go", ("go", "test", "./..."))),
        {program: (f"{_GO}/{program}",) for program in PROGRAMS},
    ),
    "typescript": Language(
        ("node", "npm"),
        (
            ("gen/typescript", (_TSC,)),
            ("gen/typescript", (_TSC, "--project", "tsconfig.examples.json")),
            ("tests/polyglot/typescript", (_TSC,)),
        ),
        (("gen/typescript", ("node", "--test", "build/test/")),),
        {
            "conformance": (*_NODE, str(ROOT / "tests/polyglot/typescript/dist/main.js")),
            "quickstart": (*_NODE, str(ROOT / "gen/typescript/build/examples/quickstart.js")),
            "bulk": (*_NODE, str(ROOT / "gen/typescript/build/examples/bulk.js")),
        },
        node_packages=("gen/typescript", "tests/polyglot/typescript"),
    ),
    "java": Language(
        ("java", "mvn"),
        (("tests/polyglot/java", (*_MAVEN, "package")),),
        (),
        {
            "conformance": (
                *_JAVA,
                _jars(_CONFORMANCE + "classes", _CONFORMANCE + "lib/*"),
                "com.reflexio.conformance.Main",
            ),
            "quickstart": (*_JAVA, _EXAMPLES, "com.reflexio.examples.Quickstart"),
            "bulk": (*_JAVA, _EXAMPLES, "com.reflexio.examples.Bulk"),
        },
    ),
    "rust": Language(
        ("cargo",),
        (
            ("tests/polyglot/rust", ("cargo", "build", "--release", "--locked", "--quiet")),
            ("gen/rust", ("cargo", "build", "--release", "--locked", "--quiet", "--examples")),
        ),
        (),
        {
            "conformance": (str(_RUST / "conformance"),),
            "quickstart": (str(_RUST / "examples" / "quickstart"),),
            "bulk": (str(_RUST / "examples" / "bulk"),),
        },
    ),
}
