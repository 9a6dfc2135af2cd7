"""What is wrong with an installation, and how to mend it.

A *check* looks at one thing and gives *findings*: what is wrong, the evidence, and the command that mends it.
It changes nothing, and none may take long: one that hangs is a finding.
"""
