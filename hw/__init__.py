"""The accelerator in Amaranth: machine description, instruction set, units."""
