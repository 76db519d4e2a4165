"""The image, built and run by a real container engine."""
