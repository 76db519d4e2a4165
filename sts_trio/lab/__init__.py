"""The lab: what the service is tested, shown and loaded with. The service never imports it."""
