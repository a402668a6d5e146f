"""`python -m haina`: the same as `haina`."""

from __future__ import annotations

from haina.cli import main

if __name__ == "__main__":
    main()
