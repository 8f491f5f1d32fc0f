"""Pure data: options, outcomes, filtering, sanitising. Uses neither Ray nor wandb.

Runs in: every process. In come values from the user and from Tune; out go the same values,
checked, cleaned and named.

- Options: `options`, `option_table`, `checks`, `keywords` (types), `unknown` (typos),
  `ignored_options`.
- Rows: `filtering` (what is left out), `routing` (where it goes), `sanitize` (how a value is
  logged) with `scalars`, `arrays`, `text` and `fields`.
- Secrets: `masking`, `secret`, `config_keys`.
- The experiment as a whole: `sweep` (W&B's), `search_space` (what Tune samples, in neutral words),
  `sweep_config` (the same in W&B's), `trial_parameters` (what was sampled for one trial).
- A W&B sweep's config, as the user gives it: `sweep_source` (read, with its lines), `sweep_file`
  and `sweep_parameters` (checked), `distributions` (what is drawn), `plan`, `sweep_command` (how
  its program is started).
- Endings and time: `outcomes`, `signals`, `timeouts`, `deadline`. Others: `checkpoint`, `notice`,
  `hooks`.
"""
