"""The Reflexio service. Layers call downwards only: rpc → core → storage / index."""
