"""Rules without I/O, without Trio and without a clock: time is an argument."""
