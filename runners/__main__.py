"""`python -m runners` is `fsl`."""

from runners.start import main

main()
