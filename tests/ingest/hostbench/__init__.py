"""Thousands of scripted hosts through the cores of the host lifecycle: a clock turned by hand, no sockets."""
