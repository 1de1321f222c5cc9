"""`python -m tests.every_account serve …`: a server, or a command, by which every account has a collection in Chroma.

By itself one of few vectors has none, see `collections.EXACT_ACCOUNT`.
"""

from reflexio_server.__main__ import main
from reflexio_server.storage import collections

if __name__ == "__main__":
    collections.EXACT_ACCOUNT = 0
    main()
