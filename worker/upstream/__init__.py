"""The upstream: the streaming call, and how its bytes become an answer."""
