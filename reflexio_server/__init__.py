"""The Reflexio service. Layers call downwards only: rpc → core → storage / index."""

from reflexio_server.process import before_imports

before_imports()
