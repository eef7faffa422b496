"""That nothing is left is seen after garbage was collected."""

from support.collecting import only_new_objects_are_collected

__all__ = ["only_new_objects_are_collected"]
