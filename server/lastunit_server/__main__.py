"""`python -m lastunit_server`: the same as the console script `lastunit-server`."""

from lastunit_server.cli import main

main()
