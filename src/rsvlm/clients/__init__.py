"""Other people's servers: requests with retries, a rate limit, a cost ceiling, cache and replay.

Keys come from the environment alone; no file of ours holds one.
"""
