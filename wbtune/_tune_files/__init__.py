"""Read an experiment from the files that Ray Tune left, without Ray and without unpickling.

Runs in: the command line, and `folder_name` everywhere. In comes a folder, of this machine or of a
remote storage, as any Ray since 2.7 writes it; out go its trials with their parameters, results,
errors and checkpoints. Nothing is written, and no pickle is loaded: a folder may come from anybody.

- `folder`: one folder in any file system.
- `experiment_files`: an experiment's folder, and which trials it has.
- `folder_name`: which trial a folder is of, by its name.
- `state_file`: Tune's ``experiment_state-*.json``.
- `trial_files`: one trial's folder.
- `endings`: how a trial ended.
"""
