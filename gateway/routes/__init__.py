"""The doors: one module for each kind of resource. They translate between HTTP and the verbs, and decide nothing."""
