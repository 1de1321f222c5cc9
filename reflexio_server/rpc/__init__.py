"""The only place that knows grpc and the generated messages."""
