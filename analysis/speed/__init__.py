"""How fast the models run, measured: true shapes on a GPU, reduced ones on a CPU; see analysis.speed.measure."""
