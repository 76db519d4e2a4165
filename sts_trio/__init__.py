"""sts_trio: the speech-to-speech connector between DSAI Core and a voice agent."""

__version__ = "0.1.0"  # the only place that has it; CONTRIBUTING.md says how it changes
