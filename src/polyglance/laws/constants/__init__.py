"""Laws from constants: those of a publication, or of another program's fit."""
