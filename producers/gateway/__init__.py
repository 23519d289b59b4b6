"""The HTTP door: any language, any browser and any OpenAI client can use the queue through it."""
