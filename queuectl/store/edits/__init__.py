"""Edits of job files by hand.

Snapshot (files/snapshot.py) notices an edit, `judge` (hand_edits.py) reads and compares it,
decision.py decides job by job, and the fold of the next change (files/writer.py) takes it in.
"""
