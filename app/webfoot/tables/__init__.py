"""Tables: whatever a UDF returns becomes Arrow batches, and these become one Parquet file."""
