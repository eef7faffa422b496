"""The tests of the server share real servers."""

from support.served import index_dir, oracle, server

__all__ = ["index_dir", "oracle", "server"]
