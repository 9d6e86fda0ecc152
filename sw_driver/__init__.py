"""Host driver: one accelerator over an abstract link."""
