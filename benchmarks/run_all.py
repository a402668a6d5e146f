"""Runs every benchmark beside this file, one after another, and prints what each prints. Run: make bench"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def main() -> None:
    """Run them; the exit code is that of the first that failed."""
    here = Path(__file__).resolve()
    scripts = (path for path in here.parent.glob("*.py") if path != here)
    for script in sorted(path for path in scripts if "__main__" in path.read_text(encoding="utf-8")):
        print(f"== {script.name}", flush=True)
        done = subprocess.run([sys.executable, str(script)], check=False)
        if done.returncode != 0:
            raise SystemExit(done.returncode)


if __name__ == "__main__":
    main()
