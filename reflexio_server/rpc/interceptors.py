"""What happens around every call, outermost first: log → errors → admit → auth → limits → decode → the servicer.

An interceptor runs on grpc's one serving thread, so it only wraps: everything else happens in the worker. Here are
errors and auth; log is in call_log.py, admit in admission.py, limits in limits.py, decode in decode.py.
"""

import contextlib
from collections.abc import Iterator

import grpc

from reflexio_server.core.accounts import Accounts
from reflexio_server.errors import DomainError, Unauthenticated
from reflexio_server.rpc import calls, errors
from reflexio_server.rpc.around import Around
from reflexio_server.rpc.calls import WITHOUT_KEY


class MapErrors(Around):
    """Turns whatever is raised below into a status; grpc itself would send its text to the caller."""

    @contextlib.contextmanager
    def around(self, method: str, context: grpc.ServicerContext) -> Iterator[None]:
        """End the call with a status if anything is raised."""
        try:
            yield
        except DomainError as error:
            errors.abort(context, error)
        except GeneratorExit:
            raise  # nobody takes the rest of the answer
        except BaseException as error:  # a panic of native code, or SystemExit: grpc would send no answer at all
            if not context.is_active():
                raise  # the caller has gone: nobody to tell
            errors.abort(context, error)


class Authenticate(Around):
    """Lets only calls with a valid key through, and remembers whose it is."""

    def __init__(self, accounts: Accounts) -> None:
        super().__init__()
        self._accounts = accounts

    @contextlib.contextmanager
    def around(self, method: str, context: grpc.ServicerContext) -> Iterator[None]:
        """Refuse the call, or remember whose it is."""
        if method not in WITHOUT_KEY:
            key = _bearer(context)
            calls.set_caller(self._accounts.authenticate(key), lambda: self._accounts.authenticate(key))
        yield


def _bearer(context: grpc.ServicerContext) -> str:
    given = [value for key, value in context.invocation_metadata() if key == "authorization"]
    if len(given) != 1 or not isinstance(given[0], str):
        raise Unauthenticated
    scheme, _, key = given[0].partition(" ")
    if scheme.lower() != "bearer":
        raise Unauthenticated
    return key.strip()
