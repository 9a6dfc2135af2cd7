"""The version of this program: for those who may not import the package for it."""

VERSION = "0.1.0"
