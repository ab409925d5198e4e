"""What a person changed in a job file by hand."""
