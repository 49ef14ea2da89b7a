"""SQL over the UDFs of a registry, each of which is a table function.

attached   the command line's: a DuckDB of its own, to which a server's catalog is attached
running    the server's: one statement of anybody's, in a sandbox → Parquet
gate       a text → the one SELECT in it, and the names that it uses, as DuckDB parses it
naming     those names → what is made for them; what may not be named is refused
sandbox    an instance for one statement: no files, no settings, no network of its own
calls      what the sandbox takes for files: results of calls, which are made as it opens them
lake       the operator's datasets as views
selection  the first rows of a statement
"""
