"""Networks, one file an architecture: settings that `build` a module for an image shape."""
