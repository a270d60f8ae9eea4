"""`python -m gateway` is `gateway`."""

from .cli import main

if __name__ == "__main__":
    main(prog_name="gateway")
