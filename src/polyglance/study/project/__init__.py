"""Files of a new project (`init`)."""
