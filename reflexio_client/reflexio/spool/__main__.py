"""`python -m reflexio.spool`: what waits on this machine, for people."""

import sys

from reflexio.cli.spool import main

if __name__ == "__main__":
    sys.exit(main())
