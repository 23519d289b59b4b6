"""The OpenAI-compatible API: chat completions, models and responses, through the queue."""
