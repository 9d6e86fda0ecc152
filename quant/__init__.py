"""Front ends, number format, calibration and export: float model to fixed-point model."""
