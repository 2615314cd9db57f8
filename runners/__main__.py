"""`python -m runners` is `fsl`."""

from runners.cli.main import main

main()
