"""What lies in spool files in the form in which it can be given to a client again."""

import base64
import json
from typing import Any

from google.protobuf import json_format

from reflexio import deletes
from reflexio.v1 import interaction_pb2
from reflexio.v1 import interaction_service_pb2 as pb

_ACTION_PREFIX = "USER_ACTION_"


def exported(method: str, payload: bytes) -> str:
    """A row as JSON: a publish as an item of `publish_many`, a delete as its request under the name of its method."""
    if method in deletes.RPCS:
        request = deletes.RPCS[method].request.FromString(payload)
        return json.dumps({method: json_format.MessageToDict(request, preserving_proto_field_name=True)})
    return json.dumps(_publish(pb.PublishInteractionStreamRequest.FromString(payload).request))


def _publish(request: pb.PublishInteractionsRequest) -> dict[str, Any]:
    fields = {
        "request_id": request.request_id,
        "user_id": request.user_id,
        "request_group": request.request_group,
        "source": request.source,
        "agent_version": request.agent_version,
    }
    said: dict[str, Any] = {name: value for name, value in fields.items() if value}
    return said | {"interactions": [_interaction(data) for data in request.interactions]}


def _interaction(data: interaction_pb2.InteractionData) -> dict[str, str]:
    action = interaction_pb2.UserAction.Name(data.user_action).removeprefix(_ACTION_PREFIX) if data.user_action else ""
    fields = {
        "role": data.role,
        "content": data.content,
        "user_action": action if action != "NONE" else "",
        "user_action_description": data.user_action_description,
        "interacted_image_url": data.interacted_image_url,
        "image_encoding": base64.b64encode(data.image).decode(),
        "created_at": data.created_at.ToJsonString() if data.HasField("created_at") else "",
    }
    return {name: value for name, value in fields.items() if value}
