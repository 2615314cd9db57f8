"""The command line `fsl`: one file per command, named as it is typed."""
