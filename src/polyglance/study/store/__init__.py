"""A study in an object store: claims of jobs, their files, the copy on the machine of the call."""
