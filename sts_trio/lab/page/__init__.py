"""Pages to look at: one file each, with all that is in it; a browser asks no network for anything."""
