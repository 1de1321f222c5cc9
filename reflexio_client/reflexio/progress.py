"""The progress bar of `publish_many`, when rich is installed (the extra `progress`) and stderr is a terminal."""

from collections.abc import Callable, Iterator, Sized
from contextlib import contextmanager

from reflexio.outcomes import BulkProgress


@contextmanager
def progress_bar(items: object, *, shown: bool) -> Iterator[Callable[[BulkProgress], None]]:
    """A function that moves the bar; it does nothing where no bar can be shown."""
    try:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
    except ImportError:
        shown = False
    if not shown or not (console := Console(stderr=True)).is_terminal:
        yield lambda _: None
        return
    columns = (TextColumn("publishing"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("", total=len(items) if isinstance(items, Sized) else None)
        yield lambda progress: bar.update(task, completed=progress.requests.total)
