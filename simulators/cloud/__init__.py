"""Cloud scheduling: machines, jobs, dispatchers and batch queues."""
