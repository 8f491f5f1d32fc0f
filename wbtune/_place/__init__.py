"""Which trial this process works on, where its runs are kept, and the login to upload them.

Runs in: every process. In come the environment, W&B's settings and what Tune tells a trial; out
go a trial's identity, the folder of its runs, and the login that they are uploaded with.
"""
