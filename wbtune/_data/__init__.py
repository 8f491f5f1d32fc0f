"""Pure data: options, outcomes, filtering, sanitising. Neither Ray nor wandb.

Runs in: every process. In come values of the user's and of Tune's; out go the same, checked,
cleaned and named.
"""
