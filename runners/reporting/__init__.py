"""What finished runs are turned into: the report page, comparisons, the list of runs."""
