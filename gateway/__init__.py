"""The gateway: accepts jobs over REST, shows how far they are, serves their results, and does none of the work.

It shares the database with the scheduler and nothing else; Redis is only asked for livelier figures.
"""
