"""Linear layers on a CPU: packed for its matrix kernels, quantised on request, joined where they share an input."""
