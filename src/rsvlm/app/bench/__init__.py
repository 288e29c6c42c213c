"""`rsvlm bench`: suites of evaluations, each through the path of `rsvlm eval`, in one table."""
