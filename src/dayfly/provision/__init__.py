"""How an image becomes a machine's configuration: plans, open files, the cache of templates, and the probe of KVM."""
