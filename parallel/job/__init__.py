"""What is asked for: the job, the prompt timeline, the error tree."""
