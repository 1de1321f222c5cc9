"""The conformance scenario in Python, on the generated stubs: prints a report that must equal every other language's.

scenario ADDRESS TROUBLED_ADDRESS SCENARIO   with REFLEXIO_EMAIL and REFLEXIO_PASSWORD set
stream ADDRESS COUNT PREFIX                  how long a stream of COUNT requests takes
"""

import hashlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.json_format import ParseDict
from google.protobuf.message import Message

from reflexio.v1 import auth_service_pb2 as auth
from reflexio.v1 import interaction_pb2 as noun
from reflexio.v1 import interaction_service_pb2 as pb
from tests.polyglot.python.client import (
    SECONDS,
    Client,
    OpenStream,
    Report,
    as_json,
    click,
    failure,
    failure_of,
    publish_request,
    say,
)


class Scenario:
    def __init__(self, address: str, troubled_address: str, scenario: dict[str, Any]) -> None:
        self.client = Client(address)
        self.troubled_address = troubled_address
        self.given = {name: section.get("given") for name, section in scenario.items()}
        self.email, self.password = os.environ["REFLEXIO_EMAIL"], os.environ["REFLEXIO_PASSWORD"]

    def run(self) -> Report:
        return {name: getattr(self, name)(given) for name, given in self.given.items()}

    def login(self, _: None) -> Report:
        answer = self.client.log_in(self.email, self.password)
        self.key_id = answer.key_id
        return {"key_prefix": answer.api_key[:5], "key_length": len(answer.api_key)}

    def who_am_i(self, _: None) -> Report:
        me = self.client.auth.WhoAmI(auth.WhoAmIRequest(), **self.client.options())
        return {
            "same_email": me.account.email == self.email,
            "same_key": me.api_key.key_id == self.key_id,
            "revoked": me.api_key.HasField("revoked_at"),
        }

    def images(self, given: Any) -> Report:
        request = publish_request(given["request"])
        answer = self.client.publish(request)
        stored = self.client.listed(user_id=request.user_id, include_images=True)
        return {
            "published": len(answer.interaction_ids),
            "replayed": answer.replayed,
            "searchable": answer.searchable,
            "images": [
                self._image(sent.image, found) for sent, found in zip(request.interactions, stored, strict=True)
            ],
        }

    def _image(self, sent: bytes, found: noun.Interaction) -> Report:
        request = pb.GetImageRequest(interaction_id=found.interaction_id)
        chunks = [part.data for part in self.client.interactions.GetImage(request, **self.client.options())]
        image = found.image
        return {
            "content": found.content,
            "media_type": image.media_type,
            "width": image.width,
            "height": image.height,
            "size_bytes": image.size_bytes,
            "data_omitted": image.data_omitted,
            "bytes_in_page": len(image.data),
            "same_sha256": image.sha256 == hashlib.sha256(sent).digest(),
            "chunks": [len(chunk) for chunk in chunks],
            "same_bytes": b"".join(chunks) == sent and image.data in (b"", sent),
        }

    def unicode(self, given: Any) -> Report:
        items = [noun.InteractionData(content=text) for text in given["texts"]]
        self.client.publish(
            pb.PublishInteractionsRequest(user_id=given["user_id"], request_id=given["request_id"], interactions=items)
        )
        stored = self.client.listed(user_id=given["user_id"])
        return {
            "user_id": stored[0].user_id,
            "request_id": stored[0].request_id,
            "contents": [item.content for item in stored],
        }

    def replay(self, given: Any) -> Report:
        request = publish_request(given["request"])
        first, again = self.client.publish(request), self.client.publish(request)
        before = self.client.publish(publish_request(given["published_before"]))
        return {
            "first_replayed": first.replayed,
            "again_replayed": again.replayed,
            "same_ids": first.interaction_ids == again.interaction_ids,
            "published_before_replayed": before.replayed,
        }

    def stream(self, given: Any) -> Report:
        instead = {one["index"]: publish_request(one["request"]) for one in given["bad"]}
        original = dict(given["duplicates"])

        def requests() -> Iterator[pb.PublishInteractionsRequest]:
            for index in range(given["count"]):
                yield instead.get(index) or click(given["user_id"], f"stream_{original.get(index, index)}")

        return {"first": self.client.stream(requests()), "again": self.client.stream(requests())}

    def malformed_in_stream(self, given: Any) -> Report:
        # An Image's first field is bytes where the RPC's message has the request.
        broken = ParseDict({"sha256": given["malformed"]}, noun.Image())
        good = noun.Image(sha256=publish_request(given["request"]).SerializeToString())
        call = self.client.channel.stream_unary(
            "/reflexio.v1.InteractionService/PublishInteractionStream",
            request_serializer=noun.Image.SerializeToString,
            response_deserializer=pb.PublishInteractionStreamResponse.FromString,
        )
        return as_json(call(iter([broken, good]), **self.client.options()))

    def search(self, given: Any) -> Report:
        for request in given["requests"]:
            self.client.publish(publish_request(request))
        return {one["name"]: self._search(one["request"]) for one in given["searches"]}

    def _search(self, given: Any) -> Report:
        request = ParseDict(given, pb.SearchInteractionsRequest())
        found = self.client.interactions.SearchInteractions(request, **self.client.options())
        scores = [hit.score for hit in found.hits]
        return {
            "contents": [hit.interaction.content for hit in found.hits],
            "unindexed_count": found.unindexed_count,
            "scores_fall": scores == sorted(scores, reverse=True),
        }

    def paging(self, given: Any) -> Report:
        user_id, size, late = given["user_id"], given["interactions"], "after the first page"
        for number in range(given["requests"]):
            items = [noun.InteractionData(content=f"line {number * size + line}") for line in range(size)]
            self.client.publish(pb.PublishInteractionsRequest(user_id=user_id, interactions=items))
        pages = self.client.pages(user_id=user_id, page_size=given["page_size"], order=pb.ORDER_OLDEST_FIRST)
        oldest_first = [next(pages)]
        newest_first = self.client.pages(user_id=user_id, page_size=given["page_size"])
        back = next(newest_first)
        self.client.publish(say(user_id, late))
        oldest_first += pages
        back += [item for page in newest_first for item in page]
        contents = [item.content for page in oldest_first for item in page]
        everything = [item.interaction_id for item in self.client.listed(page_size=1000)]
        return {
            "page_sizes": [len(page) for page in oldest_first],
            "contents": contents,
            "newest_first": [item.content for item in back],
            "late_in_pages": late in contents,
            "everything": len(everything),
            "distinct": len(set(everything)),
        }

    def threads(self, given: Any) -> Report:
        for request in given["requests"]:
            self.client.publish(publish_request(request))
        return {one["name"]: list(self._threads(one["request"])) for one in given["reads"]}

    def _threads(self, given: Any) -> Iterator[list[Report]]:
        """The threads of each page, with what was said in each request."""
        request = ParseDict(given, pb.GetRequestsRequest())
        while True:
            page = self.client.interactions.GetRequests(request, **self.client.options())
            yield [
                {
                    "request_group": group.request_group,
                    "requests": [[item.content for item in one.interactions] for one in group.requests],
                }
                for group in page.request_groups
            ]
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    def errors(self, given: Any) -> Report:
        return {row["name"]: failure(partial(self._refused, row)) for row in given}

    def _refused(self, row: Any) -> None:
        options = self.client.options(row.get("key"))
        auth_stub, stub = self.client.auth, self.client.interactions
        calls: dict[str, tuple[Callable[..., Any], Message]] = {
            "Login": (auth_stub.Login, auth.LoginRequest()),
            "WhoAmI": (auth_stub.WhoAmI, auth.WhoAmIRequest()),
            "ListApiKeys": (auth_stub.ListApiKeys, auth.ListApiKeysRequest()),
            "RevokeApiKey": (auth_stub.RevokeApiKey, auth.RevokeApiKeyRequest()),
            "PublishInteractions": (stub.PublishInteractions, pb.PublishInteractionsRequest()),
            "SearchInteractions": (stub.SearchInteractions, pb.SearchInteractionsRequest()),
            "GetInteractions": (stub.GetInteractions, pb.GetInteractionsRequest()),
            "GetRequests": (stub.GetRequests, pb.GetRequestsRequest()),
            "DeleteInteraction": (stub.DeleteInteraction, pb.DeleteInteractionRequest()),
            "DeleteRequest": (stub.DeleteRequest, pb.DeleteRequestRequest()),
            "DeleteRequestGroup": (stub.DeleteRequestGroup, pb.DeleteRequestGroupRequest()),
            "DeleteUser": (stub.DeleteUser, pb.DeleteUserRequest()),
            "GetImage": (lambda *a, **o: list(stub.GetImage(*a, **o)), pb.GetImageRequest()),
        }
        call, message = calls[row["rpc"]]
        if row.get("sent_as") == "Image":  # bytes where the RPC has text, to send what is not UTF-8
            message = noun.Image()
            path = f"/reflexio.v1.AuthService/{row['rpc']}"
            call = self.client.channel.unary_unary(path, request_serializer=noun.Image.SerializeToString)
        call(ParseDict(row["request"], message), **options)

    def erasing(self, given: Any) -> Report:
        partly, whole, threaded, _ = requests = [publish_request(one) for one in given["requests"]]
        user_id, stub, options = partly.user_id, self.client.interactions, self.client.options()
        first, *_ = [self.client.publish(request) for request in requests]
        interaction = pb.DeleteInteractionRequest(user_id=user_id, interaction_id=first.interaction_ids[0])
        report: Report = {"interaction": as_json(stub.DeleteInteraction(interaction, **options))}
        again = self.client.publish(partly)
        request = pb.DeleteRequestRequest(request_id=whole.request_id)
        report |= {
            "replayed": again.replayed,
            "same_ids": again.interaction_ids == first.interaction_ids,
            "request": as_json(stub.DeleteRequest(request, **options)),
            "erased_request": failure(lambda: self.client.publish(whole)),
            "in_stream": self.client.stream([whole, partly]),
        }
        group = pb.DeleteRequestGroupRequest(user_id=user_id, request_group=threaded.request_group)
        user = pb.DeleteUserRequest(user_id=user_id)
        return report | {
            "request_group": as_json(stub.DeleteRequestGroup(group, **options)),
            "left": [item.content for item in self.client.listed(user_id=user_id)],
            "user": as_json(stub.DeleteUser(user, **options)),
            "again": failure(lambda: stub.DeleteUser(user, **options)),
        }

    def deadline(self, given: Any) -> Report:
        requests = [say(given["user_id"], request_id) for request_id in given["request_ids"]]
        stream = OpenStream(self.client, requests, given["seconds"])
        found = failure(stream.call.result)
        stream.end()
        return {"code": found["code"], "stored": self.client.wait_for(given["user_id"], len(requests))}

    def cancellation(self, given: Any) -> Report:
        requests = [say(given["user_id"], request_id) for request_id in given["request_ids"]]
        stream = OpenStream(self.client, requests, SECONDS)
        self.client.wait_for(given["user_id"], len(requests))
        stream.call.cancel()
        stream.end()
        rest = [say(given["user_id"], request_id) for request_id in given["rest"]]
        return {"cancelled": stream.call.cancelled(), "again": self.client.stream(requests + rest)}

    def revoked_key(self, _: None) -> Report:
        other = Client(self.client.address)
        key_id = other.log_in(self.email, self.password).key_id

        def who_am_i() -> auth.WhoAmIResponse:
            return other.auth.WhoAmI(auth.WhoAmIRequest(), **other.options())

        def revoke() -> bool:
            request = auth.RevokeApiKeyRequest(key_id=key_id)
            return self.client.auth.RevokeApiKey(request, **self.client.options()).api_key.HasField("revoked_at")

        before, revoked = who_am_i().api_key.key_id == key_id, revoke()
        after = failure(who_am_i)
        keys = self.client.auth.ListApiKeys(auth.ListApiKeysRequest(), **self.client.options()).api_keys
        return {
            "before": before,
            "revoked": revoked,
            "after": after,
            "revoked_again": revoke(),
            "listed_as_revoked": sum(key.HasField("revoked_at") for key in keys),
        }

    def trouble(self, given: Any) -> Report:
        client = Client(self.troubled_address)
        client.log_in(self.email, self.password)
        held = OpenStream(client, [say("holder", "held")], SECONDS)
        client.wait_for("holder", 1)
        report: Report = {"no_free_stream": failure(lambda: client.stream([]))}

        cause("block_writes")
        with ThreadPoolExecutor(given["publishes"]) as pool:
            calls = [pool.submit(client.publish, say("busy", f"busy_{n}")) for n in range(given["publishes"])]
            refused = [error for call in calls if isinstance(error := call.exception(), grpc.RpcError)]
        report["queue_full"] = failure_of(refused[0])
        report["all_answered"] = client.wait_for("busy", len(calls) - len(refused)) == len(calls) - len(refused)

        cause("fill_disk")
        picture = publish_request({"user_id": "u", "interactions": [{"image": given["image"]}]})
        report["disk_full"] = failure(lambda: client.publish(picture))
        cause("free_disk")
        query = pb.SearchInteractionsRequest(query="x")
        report["unforeseen"] = failure(lambda: client.interactions.SearchInteractions(query, **client.options()))
        cause("close_writer")
        report["draining"] = failure(lambda: client.publish(say("late", "late")))
        cause("stop")
        report["verdict"] = as_json(held.call.result())
        held.end()
        report["stopped"] = failure(lambda: client.publish(say("late", "late")))["code"]
        return report


def cause(trouble: str) -> None:
    """Ask the test for some trouble, and wait until it is there."""
    print(trouble, flush=True)
    sys.stdin.readline()


def time_stream(address: str, count: int, prefix: str) -> Report:
    client = Client(address)
    client.log_in(os.environ["REFLEXIO_EMAIL"], os.environ["REFLEXIO_PASSWORD"])
    started = time.perf_counter()
    verdict = client.stream(say("streamer", f"{prefix}_{number}") for number in range(count))
    return {"stored": verdict["requests"]["stored"], "seconds": time.perf_counter() - started}


def main(command: str, *arguments: str) -> None:
    if command == "stream":
        address, count, prefix = arguments
        print(json.dumps(time_stream(address, int(count), prefix)))
    else:
        address, troubled_address, path = arguments
        scenario = json.loads(Path(path).read_text(encoding="utf-8"))
        print(json.dumps(Scenario(address, troubled_address, scenario).run()))


if __name__ == "__main__":
    main(*sys.argv[1:])
