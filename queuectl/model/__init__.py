"""Pure rules of a job's life: no files, clocks, dice or processes."""
