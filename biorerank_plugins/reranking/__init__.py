"""From a query and passages to a :class:`~biorerank_plugins.passages.Ranking`."""
