"""The version of this program: for those who may not import the package for it."""

__version__ = "0.1.0"
