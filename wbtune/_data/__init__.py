"""Pure data: options, outcomes, filtering, sanitising. Uses neither Ray nor wandb.

Runs in: every process. In come values from the user and from Tune; out go the same values,
checked, cleaned and named.

- Options: `options`, `option_table`, `checks`, `keywords` (types), `unknown` (typos),
  `ignored_options`.
- Rows: `filtering` (what is left out), `routing` (where it goes), `sanitize` (how a value is
  logged) with `scalars`, `arrays`, `text` and `fields`.
- Secrets: `masking`, `secret`, `config_keys`.
- Endings and time: `outcomes`, `signals`, `timeouts`, `deadline`. Others: `checkpoint`, `notice`.
"""
