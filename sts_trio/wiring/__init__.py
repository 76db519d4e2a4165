"""How calls are put together: settings in, what all calls share out. Only this room knows both."""
