"""``python -m wbtune._helper PID``: the helper of the driver with this process id."""

import json
import sys

try:
    from wbtune._helper.process import helper_main
except BaseException as error:
    print(json.dumps({"failed": f"{type(error).__name__}: {error}"}), flush=True)  # noqa: T201
    raise

if __name__ == "__main__":
    helper_main(int(sys.argv[1]))
