"""Turn what is known of a finished experiment into one page, `overview.html`.

Runs in: the driver, and whoever calls it later. In comes an `ExperimentRecord`, in which all text
is already filtered and masked; out goes one file that needs no network. Plotly draws it, and is
imported only here (`wbtune[overview]`).

- The data: `record`, `results` (curves, from Tune's files), `scores` (each trial's value, and the
  best trial), `parameters` (what was sampled, as positions), `importance` and `ped_anova`.
- The panels: `panel` (what each has), `best_so_far`, `parallel`, `curves`, `importance_panel`,
  `slices`, `lineage`, and `table`.
- The page: `head`, `text` (escaping, numbers), `page` with `page.css` and `page.js`.
"""
