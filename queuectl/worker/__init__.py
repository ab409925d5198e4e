"""Running commands: one job, one worker, many workers."""
