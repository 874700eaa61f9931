"""The whole relay as an operator runs it, while its processes are killed and its hosts misbehave."""
