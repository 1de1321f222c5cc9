"""The two services. Each method validates, converts, makes one call, converts back."""

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

import grpc

from reflexio.v1 import auth_service_pb2 as auth_pb
from reflexio.v1 import auth_service_pb2_grpc as auth_grpc
from reflexio.v1 import interaction_service_pb2 as pb
from reflexio.v1 import interaction_service_pb2_grpc as pb_grpc
from reflexio_server.core.accounts import Accounts
from reflexio_server.core.erasing import Eraser
from reflexio_server.core.listing import Lister
from reflexio_server.core.publishing import Publisher
from reflexio_server.core.searching import Searcher
from reflexio_server.rpc import convert, page_token, validation
from reflexio_server.rpc.calls import caller, current, recheck
from reflexio_server.rpc.peer import address_of
from reflexio_server.rpc.publish_messages import Batch
from reflexio_server.rpc.publish_stream import PublishStream
from reflexio_server.rpc.validation import Limits

CHUNK_BYTES = 1024 * 1024
DEFAULT_KEYS = 100
LONGEST_WAIT = 60.0  # seconds, for calls without a deadline


def _deadline(context: grpc.ServicerContext) -> float:
    """When the answer should leave (time.monotonic): a little before the caller stops waiting."""
    remaining = context.time_remaining()
    remaining = LONGEST_WAIT if remaining is None else min(remaining, LONGEST_WAIT)
    return time.monotonic() + remaining - min(0.5, 0.2 * remaining)


@dataclass(frozen=True, eq=False)
class InteractionService(pb_grpc.InteractionServiceServicer):
    """Stores interactions and finds them again."""

    publisher: Publisher
    searcher: Searcher
    lister: Lister
    eraser: Eraser
    limits: Limits
    stream_idle_seconds: float
    stream_longest_seconds: float
    draining: threading.Event

    def PublishInteractions(
        self, request: pb.PublishInteractionsRequest, context: grpc.ServicerContext
    ) -> pb.PublishInteractionsResponse:
        validation.check_publish(request, self.limits, in_stream=False)
        waits = request.wait_until == pb.WAIT_UNTIL_SEARCHABLE
        published = self.publisher.publish(
            caller().account.account_id, convert.new_request(request), _deadline(context) if waits else None
        )
        return pb.PublishInteractionsResponse(
            request_id=published.stored.request_id,
            interaction_ids=published.stored.interaction_ids,
            replayed=published.stored.replayed,
            searchable=published.searchable,
        )

    def PublishInteractionStream(  # type: ignore[override]  # `Decode` makes batches of its messages
        self, request_iterator: Iterator[Batch], context: grpc.ServicerContext
    ) -> pb.PublishInteractionStreamResponse:
        stream = PublishStream(caller().account.account_id, self.publisher, self.limits)
        ending = current().ending or self.draining
        return stream.run(
            request_iterator, context, self.stream_idle_seconds, self.stream_longest_seconds, ending, recheck
        )

    def SearchInteractions(
        self, request: pb.SearchInteractionsRequest, context: grpc.ServicerContext
    ) -> pb.SearchInteractionsResponse:
        validation.check_search(request, self.limits)
        query = convert.search_query(request, self.limits.query)
        found = self.searcher.search(caller().account.account_id, query, request.include_images, _deadline(context))
        return convert.search_response(found)

    def GetInteractions(
        self, request: pb.GetInteractionsRequest, context: grpc.ServicerContext
    ) -> pb.GetInteractionsResponse:
        validation.check_get(request, self.limits)
        account = caller().account
        page = self.lister.page(account.account_id, convert.page_query(account, request))
        return convert.page_response(account, request, page)

    def GetRequests(self, request: pb.GetRequestsRequest, context: grpc.ServicerContext) -> pb.GetRequestsResponse:
        validation.check_get_requests(request, self.limits)
        account = caller().account
        page = self.lister.requests(account.account_id, convert.request_page_query(account, request))
        return convert.request_page_response(account, request, page)

    def GetImage(self, request: pb.GetImageRequest, context: grpc.ServicerContext) -> Iterator[pb.GetImageResponse]:
        validation.check_get_image(request)
        info, data = self.lister.image(caller().account.account_id, request.interaction_id)
        yield pb.GetImageResponse(image=convert.image(info), data=data[:CHUNK_BYTES])
        for start in range(CHUNK_BYTES, len(data), CHUNK_BYTES):
            yield pb.GetImageResponse(data=data[start : start + CHUNK_BYTES])

    def DeleteInteraction(
        self, request: pb.DeleteInteractionRequest, context: grpc.ServicerContext
    ) -> pb.DeleteInteractionResponse:
        validation.check_delete_interaction(request, self.limits)
        user_id = request.user_id if request.HasField("user_id") else None
        erased = self.eraser.interaction(caller().account.account_id, request.interaction_id, user_id)
        return pb.DeleteInteractionResponse(erased=convert.erased(erased))

    def DeleteRequest(
        self, request: pb.DeleteRequestRequest, context: grpc.ServicerContext
    ) -> pb.DeleteRequestResponse:
        validation.check_delete_request(request, self.limits)
        user_id = request.user_id if request.HasField("user_id") else None
        erased = self.eraser.request(caller().account.account_id, request.request_id, user_id)
        return pb.DeleteRequestResponse(erased=convert.erased(erased))

    def DeleteRequestGroup(
        self, request: pb.DeleteRequestGroupRequest, context: grpc.ServicerContext
    ) -> pb.DeleteRequestGroupResponse:
        validation.check_delete_request_group(request, self.limits)
        erased = self.eraser.request_group(
            caller().account.account_id, request.user_id, request.request_group, context.is_active
        )
        return pb.DeleteRequestGroupResponse(erased=convert.erased(erased))

    def DeleteUser(self, request: pb.DeleteUserRequest, context: grpc.ServicerContext) -> pb.DeleteUserResponse:
        validation.check_delete_user(request, self.limits)
        erased = self.eraser.user(caller().account.account_id, request.user_id, context.is_active)
        return pb.DeleteUserResponse(erased=convert.erased(erased))


@dataclass(frozen=True, eq=False)
class AuthService(auth_grpc.AuthServiceServicer):
    """Trades a password for an API key and manages the keys."""

    accounts: Accounts
    limits: Limits

    def Login(self, request: auth_pb.LoginRequest, context: grpc.ServicerContext) -> auth_pb.LoginResponse:
        validation.check_login(request, self.limits)
        api_key, key = self.accounts.login(request.email, request.password, address_of(context))
        return auth_pb.LoginResponse(api_key=api_key, key_id=key.key_id)

    def WhoAmI(self, request: auth_pb.WhoAmIRequest, context: grpc.ServicerContext) -> auth_pb.WhoAmIResponse:
        me = caller()
        return auth_pb.WhoAmIResponse(account=convert.account(me.account), api_key=convert.api_key(me.key))

    def ListApiKeys(
        self, request: auth_pb.ListApiKeysRequest, context: grpc.ServicerContext
    ) -> auth_pb.ListApiKeysResponse:
        validation.check_list_keys(request)
        size = request.page_size or DEFAULT_KEYS
        before = page_token.decode_key(request.page_token) if request.page_token else None
        keys = self.accounts.list_keys(caller().account.account_id, before, size + 1)
        response = auth_pb.ListApiKeysResponse(api_keys=[convert.api_key(key) for key in keys[:size]])
        if len(keys) > size:
            response.next_page_token = page_token.encode_key(keys[size - 1].key_id)
        return response

    def RevokeApiKey(
        self, request: auth_pb.RevokeApiKeyRequest, context: grpc.ServicerContext
    ) -> auth_pb.RevokeApiKeyResponse:
        validation.check_revoke_key(request)
        key = self.accounts.revoke_key(caller().account, request.key_id, address_of(context))
        return auth_pb.RevokeApiKeyResponse(api_key=convert.api_key(key))
