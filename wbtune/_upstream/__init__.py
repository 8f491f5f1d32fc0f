"""The only place that imports a private name of Ray or wandb: a module for each subject.

Runs in: every process. Each name says why it is needed and in which version it was read. When
one of them moves, this is the folder to change. Nothing of Ray's or wandb's is imported before
it is needed.
"""
