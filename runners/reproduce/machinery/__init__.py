"""Runs the cells of a figure or table, collects their finished runs and reports them with the paper's values."""
