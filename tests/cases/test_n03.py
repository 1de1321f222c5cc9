"""N3: the distribution is reflexio-grpc, with its license; other software of the same import name is told apart.

On the commit before, the wheel and the sdist are of the name reflexio and hold no LICENSE.
"""

import email
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).parents[2]
PURE = {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONNOUSERSITE": "1"}


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel and the sdist, built here without the network."""
    folder = tmp_path_factory.mktemp("dist")
    code = f"""if True:
        from hatchling import build
        build.build_wheel({str(folder)!r})
        build.build_sdist({str(folder)!r})"""
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, timeout=120)
    return folder


@pytest.fixture(scope="session")
def wheel(built: Path) -> Path:
    (path,) = built.glob("*.whl")
    return path


def test_the_wheel_has_the_name_the_license_and_both_packages(wheel: Path) -> None:
    assert wheel.name.startswith("reflexio_grpc-")
    with ZipFile(wheel) as archive:
        names = archive.namelist()
        (about,) = (name for name in names if name.endswith(".dist-info/METADATA"))
        metadata = email.message_from_string(archive.read(about).decode())
        folder = about.rpartition("/")[0]
        for name in ("LICENSE", "NOTICE"):
            assert archive.read(f"{folder}/licenses/{name}") == (ROOT / name).read_bytes()
        scripts = archive.read(f"{folder}/entry_points.txt").decode()
    assert metadata["Name"] == "reflexio-grpc"
    assert metadata["License-Expression"] == "Apache-2.0"
    assert set(metadata.get_all("License-File", [])) == {"LICENSE", "NOTICE"}
    assert set(metadata.get_all("Provides-Extra", [])) >= {"server", "tracing", "wordllama", "progress"}
    base = [one for one in metadata.get_all("Requires-Dist", []) if "extra ==" not in one]
    assert {re.split(r"[<>=]", one)[0] for one in base} == {"grpcio", "protobuf", "googleapis-common-protos"}
    assert {name.partition("/")[0] for name in names} == {"reflexio", "reflexio_server", folder}
    assert {"reflexio/__init__.py", "reflexio/py.typed", "reflexio_server/__main__.py"} <= set(names)
    assert "reflexio-server = reflexio_server.__main__:main" in scripts


def test_the_sdist_has_what_it_needs(built: Path) -> None:
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    wanted = {"LICENSE", "NOTICE", "README.md", "CHANGELOG.md", "pyproject.toml", "proto/reflexio/v1/auth.proto"}
    assert wanted <= names
    assert "reflexio_client/reflexio/__init__.py" in names


def test_the_license_is_the_whole_apache_license() -> None:
    text = (ROOT / "LICENSE").read_text()
    assert text.split()[:6] == ["Apache", "License", "Version", "2.0,", "January", "2004"]
    assert "END OF TERMS AND CONDITIONS" in text


def test_nothing_names_the_distribution_otherwise() -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    wrong = re.compile(
        r"""(pip|uv)3? (install|add) [^\n]*?['" ]reflexio(\[|['"\s]|==)|(?<![\w-])version\("reflexio"\)"""
    )
    for name in tracked.split():
        if name.endswith((".py", ".md", ".toml", ".yaml", "Dockerfile")) and not name.startswith(
            ("gen/", "tests/cases/")
        ):
            found = wrong.search((ROOT / name).read_text(encoding="utf-8"))
            assert not found, (name, found)


def python(*arguments: str, path: list[Path], **environment: str) -> subprocess.CompletedProcess[str]:
    """A process that has these folders and what this environment installed, but not this checkout."""
    libraries = sysconfig.get_path("purelib")
    env = os.environ | PURE | {"PYTHONPATH": os.pathsep.join(map(str, [*path, libraries]))} | environment
    command = [sys.executable, "-S", *arguments]
    return subprocess.run(command, env=env, cwd=path[0], capture_output=True, text=True, timeout=60, check=False)


def line_of(failed: subprocess.CompletedProcess[str]) -> str:
    assert failed.returncode == 1, failed.stdout
    return failed.stderr.strip().splitlines()[-1]


@pytest.fixture
def site(wheel: Path, tmp_path: Path) -> Path:
    """What an environment has with this wheel installed."""
    with ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    return tmp_path / "site"


def foreign(site: Path, **files: str) -> None:
    """Another distribution that is installed into the same environment, after this one."""
    info = site / "reflexio-0.2.2.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: reflexio\nVersion: 0.2.2\n")
    (info / "top_level.txt").write_text("reflexio\n")
    for name, text in files.items():
        path = site / "reflexio" / f"{name.replace('__in__', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def assert_explained(line: str) -> None:
    for part in ("reflexio-grpc", "another distribution", "(reflexio)", "pip uninstall -y reflexio reflexio-grpc"):
        assert part in line, line


SERVER = [["-m", "reflexio_server", command] for command in ("serve", "--help", "health")]


@pytest.mark.parametrize("command", SERVER, ids=lambda command: command[-1])
def test_the_server_tells_when_the_others_package_lies_over_ours(site: Path, command: list[str]) -> None:
    foreign(site, __init__="class ReflexioClient: ...\n")
    failed = python(*command, path=[site])
    assert_explained(line_of(failed))
    assert len(failed.stderr.strip().splitlines()) == 1


def test_the_server_tells_when_the_others_package_is_found_first(site: Path, tmp_path: Path) -> None:
    """As with an editable install, or a folder of the user's own before the environment's."""
    first = tmp_path / "first"
    foreign(first, __init__="raise RuntimeError('this must not even be imported')\n", client="")
    failed = python("-m", "reflexio_server", "serve", path=[first, site])
    assert_explained(line_of(failed))
    assert str(first) in failed.stderr
    assert len(failed.stderr.strip().splitlines()) == 1


def test_the_server_tells_when_uninstalling_the_other_took_our_files_with_it(site: Path) -> None:
    (site / "reflexio" / "__init__.py").unlink()
    failed = python("-m", "reflexio_server", "serve", path=[site])
    assert "reflexio-grpc" in line_of(failed)
    assert "pip install 'reflexio-grpc[server]'" in failed.stderr


@pytest.mark.parametrize("name", ["client", "errors", "models"])
def test_a_folder_of_the_others_that_hides_a_module_of_ours_is_named(site: Path, name: str) -> None:
    foreign(site, **{f"{name}__in____init__": "class ReflexioClient: ...\n"})
    failed = python("-c", "import reflexio", path=[site])
    assert_explained(line_of(failed))
    assert str(site / "reflexio" / name) in failed.stderr
    assert line_of(failed).startswith("ImportError: ")


def test_our_modules_do_not_work_below_the_others_package(site: Path) -> None:
    foreign(site, __init__="")
    for line in ("from reflexio.client import ReflexioClient", "import reflexio.aio", "import reflexio.spool.outbox"):
        assert_explained(line_of(python("-c", line, path=[site])))
    assert_explained(line_of(python("-m", "reflexio.spool", "status", path=[site])))


def test_nothing_is_said_where_only_ours_is(site: Path) -> None:
    worked = python("-c", "import reflexio; print(reflexio.__distribution__, reflexio.__file__)", path=[site])
    assert worked.stdout.split() == ["reflexio-grpc", str(site / "reflexio" / "__init__.py")], worked.stderr
    assert python("-m", "reflexio_server", "--version", path=[site]).returncode == 0
    # An older name of ours, or another one's package information alone, changes nothing.
    foreign(site)
    assert python("-c", "import reflexio.client", path=[site]).returncode == 0


def test_from_an_archive_it_works_as_well(wheel: Path, tmp_path: Path) -> None:
    # grpcio and protobuf come from the environment; only ours is packed.
    worked = python("-c", "import reflexio; print(reflexio.__file__)", path=[tmp_path, wheel])
    assert str(wheel) in worked.stdout, worked.stderr
    from_archive = python("-m", "reflexio_server", "--version", path=[tmp_path, wheel])
    assert from_archive.returncode == 0, from_archive.stderr


@pytest.fixture(scope="session")
def base(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheel alone, as `pip install reflexio-grpc` would make it but for what it depends on."""
    folder = tmp_path_factory.mktemp("base")
    venv.create(folder, with_pip=False, symlinks=True)
    (packages,) = folder.glob("lib/python3*/site-packages")
    with ZipFile(wheel) as archive:
        archive.extractall(packages)
    return folder


def in_base(base: Path, *command: str) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | PURE
    return subprocess.run(
        [str(base / "bin" / "python"), *command],
        env=env,
        cwd=base,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("command", ["serve", "health", "model", "accounts", "--help", "--version"])
def test_n10_a_base_install_says_which_extra_the_server_needs(base: Path, command: str) -> None:
    failed = in_base(base, "-m", "reflexio_server", command)
    assert (failed.returncode, failed.stdout) == (1, "")
    (line,) = failed.stderr.splitlines()
    assert line.startswith("Error: the server needs the module click")
    assert "pip install 'reflexio-grpc[server]'" in line


def test_n10_a_half_of_the_extra_is_told_as_well(base: Path, tmp_path: Path) -> None:
    """Somebody has click already, and pydantic not."""
    shutil.copytree(base, tmp_path / "base", symlinks=True)
    (packages,) = (tmp_path / "base").glob("lib/python3*/site-packages")
    import click

    shutil.copytree(Path(click.__file__).parent, packages / "click")
    failed = in_base(tmp_path / "base", "-m", "reflexio_server", "serve")
    (line,) = failed.stderr.splitlines()
    assert re.match(r"Error: the server needs the module \w+, which a base install of reflexio-grpc does not", line)
    assert failed.returncode == 1
