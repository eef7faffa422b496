"""``python -m biorerank_plugins.cli``: the command line without its entry point."""

from biorerank_plugins.cli import main

main()
