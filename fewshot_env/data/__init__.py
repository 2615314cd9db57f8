"""From what people have (folders, archives, pickles) to a store: one small file per idea."""
