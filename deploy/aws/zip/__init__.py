"""A zip of Webfoot, a folder of UDFs and the packages that they need, for AWS Lambda.

`python -m deploy.aws.zip` makes it, with nothing but Python's own library and pip. What a function
never loads stays out, because Lambda allows 250 MB and the locked packages take twice that.
"""
