"""What stands in the files of a server."""

from pathlib import Path


def found_in(data_dir: Path, texts: list[str]) -> dict[str, str]:
    """Which of these stand in which file."""
    files = [path for path in data_dir.rglob("*") if path.is_file()]
    contents = {path: path.read_bytes() for path in files}
    return {
        text: str(path.relative_to(data_dir))
        for text in texts
        for path, data in contents.items()
        if text.encode() in data
    }
