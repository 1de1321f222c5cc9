"""The house as the code draws it: how much there is, and what goes against the building plan (`scripts/house`)."""

import argparse
import ast
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
PARTS = {"server": "reflexio_server", "client": "reflexio_client", "tools": "tools", "tests": "tests"}
GRPC = {"grpc", "grpc_status", "grpc_health", "grpc_reflection", "google", "reflexio.v1"}

# What each floor may import of the project, and of the libraries that belong to one floor only. The top, which starts
# and wires the server, may import everything.
FLOORS: dict[str, set[str]] = {
    "rpc": {"rpc", "core", "shared", *GRPC},
    "core": {"core", "storage", "index", "shared", "sqlalchemy.Connection"},  # the one that it passes on
    "storage": {"storage", "shared", "sqlalchemy", "alembic"},
    "index": {"index", "shared", "chromadb_rust_bindings", "httpx", "onnxruntime", "PIL", "tokenizers", "wordllama"},
    "shared": {"shared"},
    "command": {"command", "clients", "delivery", "leaves", "shared", *GRPC},
    "clients": {"clients", "delivery", "leaves", "shared", *GRPC},
    "delivery": {"delivery", "leaves", "shared", *GRPC},
    "leaves": {"leaves", "shared", *GRPC},
}
OF_SERVER = {"rpc", "core", "storage", "index"}
SHARED = {"clock", "cores", "dates", "ending", "errors", "model", "process", "roles", "shortage", "stages", "words"}
SHARED_WITH_CLIENT = {"ids", "supervised"}
CLIENTS = {"", "aio", "base", "calls", "client"}  # and with more behind a `_`
LIBRARIES = set().union(*FLOORS.values()) - FLOORS.keys()
DIALECT = re.compile(r"sqlite|postgres|psycopg|^sqlalchemy\.dialects", re.IGNORECASE)
# Of storage, those that are about one database, or say which there are.
DIALECTS_OWN = re.compile(
    r"reflexio_server\.storage\.(dialect|sqlite|sqlite_file|fts5|stems|own_log|backup|importing|postgres|postgres_claims|postgres_server|tsvector|migrations\..*)$"
)
TELLS_PEOPLE = re.compile(r"reflexio_server\.(config|cli\..*)$")  # may speak of a database, in texts and URLs
CHROMAS_OWN = "reflexio_server.index.chroma"  # speaks of the file that Chroma keeps beside its indexes


@dataclass(frozen=True)
class House:
    """What `look` found; the lists name places."""

    lines: dict[str, int]
    files: int
    circles: list[list[str]]
    upward: list[str]
    dialect_elsewhere: list[str]
    longest: tuple[str, int]

    def figures(self) -> dict[str, object]:
        return {
            "lines": self.lines,
            "files": self.files,
            "circles": len(self.circles),
            "upward": len(self.upward),
            "dialect_elsewhere": len(self.dialect_elsewhere),
            "longest": self.longest[1],
        }


def look(root: Path = ROOT) -> House:
    written = {part: modules(root, part) for part in PARTS}
    long = {path: len(path.read_text().splitlines()) for paths in written.values() for path in paths}
    product = {_name(path, root): path for part in ("server", "client") for path in written[part]}
    longest = max(product.values(), key=long.__getitem__)
    return House(
        {part: sum(long[path] for path in paths) for part, paths in written.items()},
        len(long),
        _circles({name: _imported_of(product, path) - {name} for name, path in product.items()}),
        [
            f"{path.relative_to(root)} imports {other}"
            for name, path in product.items()
            if (floor := belongs_to(name)) in FLOORS
            for other in imported(path)
            if belongs_to(other) not in {"", *FLOORS[floor]} and other not in FLOORS[floor]
        ],
        [
            f"{path.relative_to(root)}:{line} {text}"
            for name, path in product.items()
            if name.startswith("reflexio_server") and not DIALECTS_OWN.match(name) and name != CHROMAS_OWN
            for line, text in sorted(_dialects(tree(path)).items())
            if not (TELLS_PEOPLE.match(name) and re.search(" |://", text))
        ],
        (str(longest.relative_to(root)), long[longest]),
    )


def modules(root: Path, part: str) -> list[Path]:
    """The modules of this part that people wrote."""
    generated = root / "reflexio_client" / "reflexio" / "v1"
    found = (root / PARTS[part]).rglob("*.py")
    return sorted(path for path in found if "_pb2" not in path.name and not path.is_relative_to(generated))


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def imported(path: Path) -> Iterator[str]:
    """Every imported module, and `module.name` for what is imported from one; in functions and for types as well."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def belongs_to(name: str) -> str:
    """The floor of a module of the project, "top", the name of a library of some floor, or "" for any other."""
    head, first, *_ = [*name.split("."), ""]
    if head == "reflexio_server":
        return first if first in OF_SERVER else "shared" if first in SHARED else "top"
    if head != "reflexio" or first == "v1":
        head = "reflexio.v1" if head == "reflexio" else head
        return head if head in LIBRARIES else ""
    if first == "cli" or name.startswith("reflexio.spool.__main__"):
        return "command"
    if first in SHARED_WITH_CLIENT:
        return "shared"
    is_client = first.split("_")[0] in CLIENTS or first[0].isupper()  # reflexio.ReflexioClient
    return "delivery" if first == "spool" else "clients" if is_client else "leaves"


def _name(path: Path, root: Path) -> str:
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[parts[0] == "reflexio_client" :]).removesuffix(".__init__")


def _imported_of(product: dict[str, Path], path: Path) -> set[str]:
    """The product's modules among what is imported: of `module.name` the name, if that is a module itself."""
    names = set(imported(path))
    return {name if name in product else name.rpartition(".")[0] for name in names} & product.keys()


def _circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """The strongly connected parts that have more than one module."""

    def reached(name: str) -> set[str]:
        seen: set[str] = set()
        ahead = [name]
        while ahead:
            new = graph[ahead.pop()] - seen
            seen |= new
            ahead += new
        return seen

    reach = {name: reached(name) for name in graph}
    return sorted(map(list, {tuple(sorted(o for o in reach[name] if name in reach[o])) for name in graph} - {()}))


def _dialects(module: ast.Module) -> dict[int, str]:
    """What names a database's dialect, by line: imports, identifiers and strings, but no docstring."""
    docstrings = {node.value for node in ast.walk(module) if isinstance(node, ast.Expr)}
    return {
        getattr(node, "lineno", 0): word
        for node in ast.walk(module)
        if node not in docstrings
        for _, word in ast.iter_fields(node)
        if isinstance(word, str) and DIALECT.search(word)
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/house", description=__doc__)
    parser.add_argument("--json", action="store_true", help="also one JSON object, on the last line")
    house = look()
    for part, count in house.lines.items():
        print(f"{part + ' lines':24}{count:>8,}")
    print(f"{'files':24}{house.files:>8,}")
    print(f"{'longest module':24}{house.longest[1]:>8,}  {house.longest[0]}")
    for title, found in (
        ("circles", [", ".join(circle) for circle in house.circles]),
        ("imports upward", house.upward),
        ("dialects elsewhere", house.dialect_elsewhere),
    ):
        print(f"{title:24}{len(found):>8,}")
        print(*(f"    {one}\n" for one in found), sep="", end="")
    if parser.parse_args().json:
        print(json.dumps(house.figures()))


if __name__ == "__main__":
    main()
