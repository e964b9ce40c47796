"""What a user sees of a table: Dask arrays, and a Dataset with named dimensions."""
