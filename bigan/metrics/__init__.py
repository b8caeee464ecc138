"""What `bigan evaluate` measures with nothing downloaded: figures in the features of a classifier of the data itself."""
