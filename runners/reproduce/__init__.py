"""The paper's figures and tables: declared as grids of runs, carried out, and reported beside the paper's values."""
