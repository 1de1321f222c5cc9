"""How the client's modules import one another: downwards only, delivery below the clients and these below cli."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import reflexio

ROOT = Path(reflexio.__file__).parent
ABOVE_DELIVERY = ("aio", "aio_calls", "base", "calls", "client")


def imports() -> dict[str, set[str]]:
    """The modules and what each of them imports of the others, also in functions and for types only."""
    paths = [path for path in ROOT.rglob("*.py") if "v1" not in path.parts]
    modules = {".".join(("reflexio", *path.relative_to(ROOT).with_suffix("").parts)): path for path in paths}
    modules = {name.removesuffix(".__init__"): path for name, path in modules.items()}
    graph: dict[str, set[str]] = {name: set() for name in modules}
    for name, path in modules.items():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom):
                named = {f"{node.module}.{alias.name}" for alias in node.names}
                graph[name] |= {one if one in modules else str(node.module) for one in named} & modules.keys()
            elif isinstance(node, ast.Import):
                graph[name] |= {alias.name for alias in node.names} & modules.keys()
    return graph


def test_nothing_imports_in_a_circle() -> None:
    assert len(list(TopologicalSorter(imports()).static_order())) > 40


def test_delivery_knows_neither_the_clients_nor_the_command() -> None:
    above = {f"reflexio.{name}" for name in ABOVE_DELIVERY}
    for name, imported in imports().items():
        if name.startswith("reflexio.spool") and name != "reflexio.spool.__main__":
            assert not imported & above, name
        if not name.startswith(("reflexio.cli.", "reflexio.spool.__main__")):
            assert not [one for one in imported if one.startswith("reflexio.cli.")], name
