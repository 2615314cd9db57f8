"""Reading image data sets in the forms in which people have them, and writing them as prepared data sets."""
