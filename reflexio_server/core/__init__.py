"""The domain: no grpc, no protobuf, no SQL text. Collaborators come as arguments from app.py."""
