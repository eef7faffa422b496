"""How fast pairs are scored here, side by side with sentence-transformers; ``biorerank bench`` runs it.

All systems score the same pairs with the same weights, in one process, in turns, so that whatever else the machine does
falls on all of them. What decides is the ratio to fp32 ``CrossEncoder.predict`` within a round, not a time.

Only numpy is imported with these modules; models, runtimes and frameworks load when a system that needs them does.
"""
