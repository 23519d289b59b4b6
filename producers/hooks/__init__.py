"""Webhooks in: what others send becomes jobs."""
