"""Pictures that are made to harm whoever decodes them: here they are bytes, whose first ones name the format."""

import hashlib

import grpc
import pytest

from reflexio.v1 import interaction_pb2 as noun
from reflexio.v1 import interaction_service_pb2 as pb
from tests.support import Caller, LocalServer
from tests.wire import expect, failure, publish
from tools.pictures import HOSTILE, MOST

MEDIA_TYPES = {"png": "image/png", "jpeg": "image/jpeg", "gif": "image/gif", "webp": "image/webp"}
TOO_LARGE = "8 MiB and a byte"
# The size that a header states is told as it is, however absurd; 0 is what it does not state.
SIZES = {
    "png of 256 KiB that inflates to 256 MiB": (16384, 16384),
    "png whose text inflates to 256 MiB": (1, 1),
    "gif of 65535×65535 and 300,000 frames": (65535, 65535),
    "webp of 16,777,216×16,777,216": (1 << 24, 1 << 24),
    "jpeg of 65535×65535 in 86 bytes": (65535, 65535),
    "jpeg of 8 MiB of empty comments": (0, 0),
    "jpeg whose Exif refers to itself": (8, 8),
    "png cut in its header": (0, 0),
    "png of 4,294,967,295×4,294,967,295": (0, 0),
    "jpeg without lines": (33, 0),
    "pdf with a jpeg in it": (0, 0),
}


@pytest.fixture(scope="module")
def caller(server: LocalServer) -> Caller:
    return server.new_caller()


def test_there_are_enough() -> None:
    assert len(HOSTILE) >= 30
    assert set(SIZES) | {TOO_LARGE} <= set(HOSTILE)


@pytest.mark.parametrize("name", [name for name in HOSTILE if name != TOO_LARGE])
def test_it_is_given_back_as_it_came(caller: Caller, name: str) -> None:
    picture = HOSTILE[name]()
    assert 0 < len(picture) <= MOST
    (stored,) = publish(caller, "hostile", noun.InteractionData(image=picture)).interaction_ids
    request = pb.GetImageRequest(interaction_id=stored)
    parts = list(caller.interactions.GetImage(request, metadata=caller.metadata, timeout=30))
    assert b"".join(part.data for part in parts) == picture
    (read,) = caller.get(interaction_ids=[stored], include_images=True).interactions
    assert read.image.data == (b"" if read.image.data_omitted else picture)
    for told in (parts[0].image, read.image):
        assert told.media_type == MEDIA_TYPES.get(name.split()[0], "application/octet-stream")
        assert told.sha256 == hashlib.sha256(picture).digest()
        assert told.size_bytes == len(picture)
        assert (told.width, told.height) == SIZES.get(name, (told.width, told.height))


def test_what_is_over_the_limit_is_refused(caller: Caller) -> None:
    found = failure(publish, caller, "hostile", noun.InteractionData(image=HOSTILE[TOO_LARGE]()))
    field, count = "interactions[0].image", str(MOST + 1)
    expect(found, grpc.StatusCode.INVALID_ARGUMENT, "LIMIT_EXCEEDED", field=field, count=count, maximum=str(MOST))
