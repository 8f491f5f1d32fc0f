"""The only place that uses a private name of Ray or wandb: a module for each subject.

Runs in: every process. Each function says why the private name is needed, and in brackets in which
version of Ray or wandb, and where, it was read. When one of them moves, this is the folder to
change. Nothing of Ray's or wandb's is imported before it is needed.
"""
