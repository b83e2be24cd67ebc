"""The process that owns the models; torch lives here and nowhere else."""
