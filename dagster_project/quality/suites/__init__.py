"""The suites of the eight gates, one module a stage, in walk order.

Each answers: may the next stage believe these tables tonight? Promises of a single table (unique, not null) are dbt
tests; whether a function is right is the test suite's business.
"""
