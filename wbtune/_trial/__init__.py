"""A `Trainable`'s life becomes its run's life.

Runs in: a trial's process. In come Tune's and Ray Train's calls of the user's code; out goes the
trial's own run.
"""
