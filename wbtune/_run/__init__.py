"""One W&B run, wherever it is written: opened, guarded, closed, and read back from its files.

Runs in: a trial's process, the helper process, and, where there is no helper, the driver. In come
a `RunSpec`, rows and an outcome; out goes a run that says all of it, on disk or at the server.
"""
