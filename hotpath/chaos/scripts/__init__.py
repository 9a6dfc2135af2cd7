"""The built-in scripts of `hotpath chaos`; loaded from their files, as a user's script is."""
