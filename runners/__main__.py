"""`python -m runners` is `fsl`."""

from runners.cli.start import main

main()
