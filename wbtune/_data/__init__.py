"""Pure data: options, outcomes, filtering, sanitising. Neither Ray nor wandb.

Runs in: every process. In come values of the user's and of Tune's; out go the same, checked,
cleaned and named.

- Options: `options`, `option_table`, `checks`, `keywords` (types), `unknown` (slips), `drop_in`.
- Rows: `filtering` (what is left out), `routing` (where it goes), `sanitize` (what becomes of a
  value) with `scalars`, `arrays`, `text` and `fields`.
- Secrets: `masking`, `secret`, `config_keys`.
- Endings and time: `outcomes`, `signals`, `timeouts`, `deadline`. Others: `checkpoint`, `notice`.
"""
