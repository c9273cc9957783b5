"""The prediction log: sampled requests with their answers and the labels that came later, as Parquet files."""
