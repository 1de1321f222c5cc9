"""A real PostgreSQL server in a folder of its own, which can be stopped, killed and started again; databases on it."""

import contextlib
import os
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
from psycopg import sql

HOW = (
    "there is no PostgreSQL: install it (Debian: apt install postgresql), put its initdb and pg_ctl on PATH, or say in "
    "REFLEXIO_TEST_DATABASE_URL where one is on which databases may be made"
)


class Cluster:
    """A PostgreSQL server on a socket in a folder of its own, which can be stopped, killed and started again."""

    def __init__(self, *, durable: bool = False) -> None:
        found = binaries()
        assert found, HOW
        self._binaries = found
        self._user = "postgres" if os.geteuid() == 0 else None  # which does not run as root
        # Not in pytest's folder: that user may not look into it, and the path of a socket has little room.
        self.folder = Path(tempfile.mkdtemp(prefix="postgres"))
        if self._user:
            shutil.chown(self.folder, self._user, self._user)
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

    def new(self) -> str:
        """The URL of a new database."""
        return new_database(self.url)

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

    def _run(self, program: str, *arguments: str, as_other: bool = True) -> None:
        # By a program: subprocess's own `user` makes it fork, and gRPC's handlers of a fork may crash the child.
        other = ["setpriv", f"--reuid={self._user}", f"--regid={self._user}", "--clear-groups"]
        as_user = other if self._user and as_other else []
        subprocess.run(
            [*as_user, self._binaries / program, *arguments],
            check=True,
            cwd="/",
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=60,
        )


def binaries() -> Path | None:
    """The folder of PostgreSQL's programs, None when there is none."""
    if found := shutil.which("initdb"):
        return Path(found).parent
    installed = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    return max(installed, key=lambda path: int(path.parent.name), default=None)


def version() -> str:
    """What `initdb` says that it is: "PostgreSQL 15.18"."""
    found = binaries()
    assert found, HOW
    said = subprocess.run([found / "initdb", "--version"], check=True, capture_output=True, text=True, timeout=10)
    return f"PostgreSQL {said.stdout.split()[2]}"  # "initdb (PostgreSQL) 15.18 …"


def new_database(url: str, template: str | None = None) -> str:
    """Make a database on the server of this URL, a copy of that at `template`; its own URL."""
    name = f"reflexio_{secrets.token_hex(6)}"
    with psycopg.connect(url, autocommit=True) as conn:
        copied = sql.Identifier(urlsplit(template).path[1:] if template else "template0")
        conn.execute(sql.SQL("CREATE DATABASE {} ENCODING 'UTF8' TEMPLATE {}").format(sql.Identifier(name), copied))
    return urlsplit(url)._replace(path=f"/{name}").geturl()


@contextlib.contextmanager
def running() -> Iterator[str]:
    """A server to make databases on: that of REFLEXIO_TEST_DATABASE_URL, else one of its own; its URL."""
    given = os.environ.get("REFLEXIO_TEST_DATABASE_URL")
    if given:
        yield given
        return
    cluster = Cluster()
    try:
        yield cluster.url
    finally:
        cluster.close()
