"""What a user would pick instead, measured in the same run on the same work.

Read `README.md` here first, then `__main__.py`.
"""
