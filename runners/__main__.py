"""`python -m runners` is `fsl`."""

from runners.cli import main

main()
