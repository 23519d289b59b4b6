"""The Celery side: takes admitted jobs, streams their answers, relays them."""
