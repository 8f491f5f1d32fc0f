"""Which trial this process works on, where its runs are kept, and the login to upload them.

Runs in: every process. In come the environment, W&B's settings and what Tune tells a trial; out
go a trial's identity, the folder of its runs, and the login that they are uploaded with.

- Who and where: `identity`, `storage` (remote), `outer_job` (a sweep agent, say).
- The login: `credentials` (finding a key), `driver_login`, `trial_login`; between the two:
  `handover`, `sender`, and `driver_options` for options.
- Questions to the server: `server`, by `transport` and `proxies`.
"""
