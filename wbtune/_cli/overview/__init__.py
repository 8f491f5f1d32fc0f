"""Find out what the overview of an experiment shows, from its folder.

- `record`: from Tune's files.
- `known_by_runs`: from wbtune's runs beside them, where there are some.
"""
