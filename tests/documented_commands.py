"""Takes the shell commands out of a Markdown document, runs them in one shell, and compares what they print."""

import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ELLIPSIS = "…"
_MARKER = re.compile(r"<!-- (?:run: (?P<name>[\w-]+)|not run: .+) -->")
_FENCE = re.compile(r"```(\w*)")
_VARYING = (  # what is different in each run, and what stands for it when outputs are compared
    (re.compile(r"rflx_[\w-]+"), "<key>"),
    (re.compile(r'("tag": ")\w{10}"'), r'\1<tag>"'),
    (re.compile(r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b"), "<id>"),
    (re.compile(r"\b\d{4}-\d\d-\d\dT[\d:.]+Z"), "<time>"),
    (re.compile(r"\b\d\.\d{3,}(e-\d+)?"), "<score>"),
    (re.compile(r'("next_?page_?token": ")[\w-]+"', re.IGNORECASE), r'\1<token>"'),
    (re.compile(r"\s+"), ""),  # Go's JSON has a space more or less, different in each build
)


@dataclass(frozen=True)
class Block:
    """Commands of a document, and what it says that they print (None: it does not say)."""

    name: str
    line: int
    commands: str
    output: str | None


@dataclass(frozen=True)
class Outcome:
    """What commands did: their exit status, and all they printed in its order."""

    status: int
    output: str


class BadDocument(ValueError):
    """The document does not follow the rules for documents that are run."""


def read_blocks(text: str) -> list[Block]:
    """The blocks marked with `<!-- run: name -->`, in their order.

    Every ```sh block must have such a marker right before it, or `<!-- not run: reason -->`. A ```text or ```json block
    after it, with nothing but empty lines between them, is what it prints.
    """
    blocks: list[Block] = []
    marker: re.Match[str] | None = None
    follows = False  # nothing has come since the block before
    lines = enumerate(text.splitlines(), 1)
    for number, line in lines:
        fence = _FENCE.fullmatch(line)
        if not fence:
            if found := _MARKER.fullmatch(line):
                marker = found
            elif line.startswith("<!--") and "run" in line:
                raise BadDocument(f"line {number}: this marker is not understood: {line}")
            elif line.strip():
                marker = None
            follows = follows and not line.strip()
            continue
        body = []
        for _, inner in lines:
            if inner == "```":
                break
            body.append(inner)
        content = "\n".join(body) + "\n"
        if fence[1] == "sh":
            if marker is None:
                raise BadDocument(f"line {number}: a sh block without a marker before it")
            if name := marker["name"]:
                if name in {block.name for block in blocks}:
                    raise BadDocument(f"line {number}: there are two blocks named {name}")
                blocks.append(Block(name, number, content, None))
            follows, marker = bool(marker and marker["name"]), None
        elif follows:
            last = blocks[-1]
            blocks[-1] = Block(last.name, last.line, last.commands, content)
            follows = False
    return blocks


def run_blocks(
    blocks: Sequence[Block],
    folder: Path,
    environment: Mapping[str, str],
    typed: str = "",
    variables: Mapping[str, Mapping[str, str]] | None = None,
    timeout: float = 120,
) -> dict[str, Outcome]:
    """Run the blocks one after another in one shell that starts in `folder`; each has `typed` as standard input.

    A block named in `variables` runs with these set, and what it sets itself is gone after it.
    """
    bash = shutil.which("bash", path=environment.get("PATH"))
    if bash is None:
        raise RuntimeError("the commands need bash")
    log = folder / "outcomes"
    log.mkdir()
    (log / "typed").write_text(typed)
    script = []
    for block in blocks:
        (log / f"{block.name}.sh").write_text(block.commands)
        command = f'. "{log}/{block.name}.sh"'
        if given := (variables or {}).get(block.name):
            command = "( " + "".join(f"export {key}='{value}'; " for key, value in given.items()) + command + " )"
        script.append(
            f'{command} < "{log}/typed" > "{log}/{block.name}.out" 2>&1; echo $? > "{log}/{block.name}.status"'
        )
    subprocess.run(
        [bash, "--norc", "-c", "\n".join(script)],
        cwd=folder,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        check=True,
        timeout=timeout,
    )
    return {
        block.name: Outcome(
            int((log / f"{block.name}.status").read_text()), (log / f"{block.name}.out").read_text(errors="replace")
        )
        for block in blocks
    }


def fits(documented: str, printed: str) -> bool:
    """Whether the document tells what was printed: `…` is anything, and ids, times, keys and scores may differ."""
    parts = [re.escape(_plain(part)) for part in documented.split(ELLIPSIS)]
    return re.fullmatch(".*".join(parts), _plain(printed), re.DOTALL) is not None


def _plain(text: str) -> str:
    for pattern, replacement in _VARYING:
        text = pattern.sub(replacement, text)
    return text
