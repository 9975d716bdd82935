"""python -m loopos: the command line."""

from loopos.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
