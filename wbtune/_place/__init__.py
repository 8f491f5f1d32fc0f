"""Which trial this process works on, where its runs are kept, and the login to upload them.

Runs in: every process. In come the environment, W&B's settings and the trial information from Tune;
out go a trial's identity, the folder of its runs, and the login that they are uploaded with.

- The trial and its place: `identity`, `storage` (remote), `outer_job` (a sweep agent, say).
- The login: `credentials` (finding a key), `driver_login`, `trial_login`; from one to the other:
  `handover`, `sender`, and `driver_options` for options.
- Requests to the server: `server`, `sweeps` and `arrivals`, by `transport` and `proxies`.
"""
