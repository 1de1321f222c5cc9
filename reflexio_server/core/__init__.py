"""The domain: no grpc, no protobuf, no SQL text. Collaborators come as arguments from what wires them."""
