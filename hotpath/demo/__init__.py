"""The main job on real input: one script over every file of the standard library, beside a bare for-loop.

`flow_x.py` here is a link to the one in `examples/`, so that an installed package has it too.
"""
