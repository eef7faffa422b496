"""The tests of the client share real servers."""

from support.served import index_dir, oracle, server

__all__ = ["index_dir", "oracle", "server"]
