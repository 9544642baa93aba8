"""`python -m sw2.faces.cli`: the same as the command `sw2`."""

from sw2.faces.cli import main

if __name__ == "__main__":
    main()
