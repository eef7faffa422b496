"""After it trained, transformers collects garbage."""

from support.collecting import only_new_objects_are_collected

__all__ = ["only_new_objects_are_collected"]
