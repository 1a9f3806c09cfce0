"""Search, train, verify and inspect: `python run_study.py --help`."""

import sys

if sys.version_info < (3, 11):
    sys.exit("flipsearch needs Python 3.11 or newer, this is %d.%d: run `make study`." % sys.version_info[:2])

from search.cli import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
