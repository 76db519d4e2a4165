"""One call as DSAI Core places it: the caller, what they hear, and what is measured of it."""
