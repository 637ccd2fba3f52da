"""The lone scheduler: plans jobs into chunks, admits chunks, rings bells, mends what broke, finishes jobs."""
