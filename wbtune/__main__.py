"""``python -m wbtune``: the same as the command ``wbtune``."""

from wbtune._cli.main import main

if __name__ == "__main__":
    main(prog_name="wbtune")
