"""What a person changed in a job file by hand.

It is noticed by Snapshot (files/snapshot.py), read and compared by `judge` (hand_edits.py), decided
job by job in decision.py, and taken in by the fold of the next change (files/writer.py).
"""
