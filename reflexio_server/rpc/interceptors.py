"""What happens around every call, in which order.

An interceptor would run on grpc's one serving thread: there `Admit` only chooses a line, and has all others wrap once.
"""

import contextlib
from collections.abc import Iterator, Sequence

import grpc

from reflexio_server.core.accounts import Accounts
from reflexio_server.ending import Ending, work_of
from reflexio_server.errors import DomainError, Ended, Unauthenticated
from reflexio_server.rpc import calls, errors
from reflexio_server.rpc.admission import Admit, Entrance, Gate
from reflexio_server.rpc.around import Around
from reflexio_server.rpc.call_log import LogCalls
from reflexio_server.rpc.calls import WITHOUT_KEY
from reflexio_server.rpc.decode import Decode
from reflexio_server.rpc.shares import LimitCalls


def chain(
    observers: Sequence[grpc.ServerInterceptor],
    entrance: Entrance,
    gate: Gate,
    accounts: Accounts,
    limit: LimitCalls,
    decode: Decode,
) -> list[grpc.ServerInterceptor]:
    """What a call passes on its way to the servicer, the outermost first.

    Each account's calls wait in a line of their own; what a thread takes is logged and counted; every error below is
    mapped; what cannot be taken now ends before its key is looked at; who has no key takes no place, and nothing of
    theirs is parsed.
    """
    below = [gate, Authenticate(accounts, entrance), limit, decode, EndWork()]
    return [Admit(entrance, gate), LogCalls(), *observers, MapErrors(), *below]


class MapErrors(Around):
    """Turns whatever is raised below into a status; grpc itself would send its text to the caller."""

    @contextlib.contextmanager
    def around(self, method: str, context: grpc.ServicerContext) -> Iterator[None]:
        try:
            yield
        except DomainError as error:
            errors.abort(context, error)
        except Ended:
            context.abort(grpc.StatusCode.CANCELLED, "the call ended before its work was done")
        except GeneratorExit:
            raise  # nobody takes the rest of the answer
        except BaseException as error:  # a panic of native code, or SystemExit: grpc would send no answer at all
            if not context.is_active():
                raise  # the caller has gone: nobody to tell
            errors.abort(context, error)


class EndWork(Around):
    """Lets what is done for a call stop when the call ends: at its deadline, cancelled, or with the server."""

    @contextlib.contextmanager
    def around(self, method: str, context: grpc.ServicerContext) -> Iterator[None]:
        call = Ending()
        if not context.add_callback(call.come):
            call.come()
        with work_of(call):
            yield


class Authenticate(Around):
    """Lets only calls with a valid key through, and has each counted as its account's."""

    def __init__(self, accounts: Accounts, entrance: Entrance) -> None:
        self._accounts = accounts
        self._entrance = entrance

    @contextlib.contextmanager
    def around(self, method: str, context: grpc.ServicerContext) -> Iterator[None]:
        if method not in WITHOUT_KEY:
            key = _bearer(context)
            caller = self._accounts.authenticate(key)
            calls.set_caller(caller, lambda: self._accounts.authenticate(key))
            self._entrance.authenticated(method, context.invocation_metadata(), caller.account.account_id)
        yield


def _bearer(context: grpc.ServicerContext) -> str:
    given = [value for key, value in context.invocation_metadata() if key == "authorization"]
    if len(given) != 1 or not isinstance(given[0], str):
        raise Unauthenticated
    scheme, _, key = given[0].partition(" ")
    if scheme.lower() != "bearer":
        raise Unauthenticated
    return key.strip()
