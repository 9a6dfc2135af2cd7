"""The benchmark harness: every figure beside its baseline of the same minute, and every result checked.

`python -m bench` lists the scenarios. A scenario runs its *arms* (the thing measured and what it is
measured against) in turn, ABAB, so that a noisy minute hits both; what is compared are the pairs. A run
fails when a job is missing, is there twice, or has a wrong result: a fast wrong answer is no figure.
"""
