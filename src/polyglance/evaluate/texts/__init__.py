"""Forms of files that hold predictions and references, each in a module; `text_files` tells them apart."""
