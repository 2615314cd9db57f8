"""The paper's figures and tables, one file each; `registry` lists them, `machinery` runs and reports them."""
