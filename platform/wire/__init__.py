"""How observations and decisions travel: Open Inference Protocol and raw frames."""
