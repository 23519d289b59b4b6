"""What Penstock is compared with: the Celery workers people write without it."""
