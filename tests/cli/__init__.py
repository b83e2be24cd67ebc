"""The command line client as a user has it: as a process, on a pipe and on a terminal."""
