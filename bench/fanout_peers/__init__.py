"""What Webfoot's fan-outs are measured beside: each a process that takes orders over HTTP.

A peer imports nothing of Webfoot's, and runs in an environment of its own.
"""
