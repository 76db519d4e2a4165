"""The lab: what the service is tested, shown and loaded with. The service never imports it."""

from sts_trio.lab.providers import PROVIDERS, UnknownProviderError

__all__ = ["PROVIDERS", "UnknownProviderError"]
