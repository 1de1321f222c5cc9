"""The same without the interceptors: what any call through gRPC costs."""

from unittest.mock import patch

from tools.benchmarks.echo_server import main

if __name__ == "__main__":
    with patch("reflexio_server.app.chain", lambda *_: ()):
        main()
