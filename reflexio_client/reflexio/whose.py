"""Whose modules these are: `reflexio` and `reflexio-client` on the package index are others' software.

They have the same import name, so that their files lie over or beside ours when both are installed.
"""

import os
import sys

DISTRIBUTION = "reflexio-grpc"


def refuse_others() -> None:
    """Raises ImportError when another distribution's modules are found under this package's name.

    A folder that bears the name of one of our modules is found before it; and the `reflexio/__init__.py` that loads
    our modules must be ours, which says so by `__distribution__`.
    """
    folder = os.path.dirname(__file__)
    found = set(os.listdir(folder)) if os.path.isdir(folder) else set()  # from an archive nothing is laid over
    strange = [name for name in found if f"{name}.py" in found]
    if getattr(sys.modules.get("reflexio"), "__distribution__", None) != DISTRIBUTION:
        strange.append("__init__.py")
    if strange:
        raise ImportError(explain(os.path.join(folder, min(strange))))


def explain(path: str) -> str:
    """What to do about another distribution's file or folder `path`, in a line."""
    from importlib import metadata  # slow, and met here alone

    others = {name for name in metadata.packages_distributions().get("reflexio", ()) if name != DISTRIBUTION}
    names = " ".join(sorted(others or {"reflexio", "reflexio-client"}))
    return (
        f"{path} is not from {DISTRIBUTION}, but from another distribution with the same import name ({names}): "
        f"they cannot be installed together. Run: pip uninstall -y {names} {DISTRIBUTION}, and then: "
        f"pip install {DISTRIBUTION}"
    )
