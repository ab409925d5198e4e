"""One grammar for three front ends: argv, script and shell."""
