"""The Python examples of a page, one after the other: ``python readme_program.py PAGE``.

Each in a main program of its own, as a user's file would be, on one Ray.
"""

from __future__ import annotations

import re
import sys
import types
from pathlib import Path

from drivers import local_ray, quick_workers


def main():
    page = Path(sys.argv[1]).read_text(encoding="utf-8")
    quick_workers()
    local_ray(4)
    examples = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    for number, example in enumerate(examples, 1):
        module = sys.modules["__main__"] = types.ModuleType("__main__")
        exec(compile(example, f"<example {number}>", "exec"), vars(module))
        print(f"example {number} ran")
    print("all fitted")


if __name__ == "__main__":
    main()
