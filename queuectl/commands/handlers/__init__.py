"""What each command does.

A handler returns a Result. It raises InvalidInput for values that contradict each other, and what
the queue raises.
"""
