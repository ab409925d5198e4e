"""What each command does.

A handler returns a Result. It raises InvalidInput for values that do not go together, and passes
on what the queue raises.
"""
