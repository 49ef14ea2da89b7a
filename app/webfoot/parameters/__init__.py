"""A UDF's parameters: from its signature to typed, canonical arguments.

    signature   a function's signature → its parameters; what no URL could give is refused
    types       which types a parameter may have, and how each reads text
    arguments   text, Python values or JSON → the one canonical form of a call
    partitions  parameters whose values can be listed, for hive-shaped paths

One pydantic model per UDF validates for every caller. Text (a query string, a command line) is
first decoded by the parameter's type; Python values and JSON go to the same model, so that the same
call is the same call however it arrives.
"""

from webfoot.parameters.arguments import Parameter, Parameters
from webfoot.parameters.partitions import check_partitions, choices, partition_values
from webfoot.parameters.signature import read_signature

__all__ = [
    "Parameter",
    "Parameters",
    "check_partitions",
    "choices",
    "partition_values",
    "read_signature",
]
