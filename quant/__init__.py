"""Front ends, number format, calibration and export: float model to fixed-point model."""

import os

# torch's threads wait for each other by spinning, which takes a busy computer a hundred times as long;
# this is read when torch is loaded
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
